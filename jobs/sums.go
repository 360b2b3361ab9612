package jobs

import "math"

// addClipped adds, and stops at the ends of 64 bits.
func addClipped(a, b int64) int64 {
	switch sum := a + b; {
	case b > 0 && sum < a:
		return math.MaxInt64
	case b < 0 && sum > a:
		return math.MinInt64
	default:
		return sum
	}
}
