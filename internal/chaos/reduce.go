package chaos

import "slices"

// Reduce finds a plan with as few steps as possible that still fails: it leaves out halves, then quarters, and so on,
// down to single steps (delta debugging, Zeller's ddmin). fails carries a plan out; it is called at most tries times. A
// fault that needs luck may fail to fail: what is left is then longer than it need be, but it did fail.
func Reduce(plan Plan, tries int, fails func(Plan) bool) Plan {
	for parts := 2; len(plan.Steps) > 1 && parts <= len(plan.Steps); {
		size := (len(plan.Steps) + parts - 1) / parts
		smaller := false
		for from := 0; from < len(plan.Steps); from += size {
			if tries--; tries < 0 {
				return plan
			}
			less := plan
			less.Steps = slices.Delete(slices.Clone(plan.Steps), from, min(from+size, len(plan.Steps)))
			if fails(less) {
				plan, smaller = less, true
				break
			}
		}
		switch {
		case smaller:
			parts = max(2, parts-1)
		case parts == len(plan.Steps):
			return plan
		default:
			parts = min(2*parts, len(plan.Steps))
		}
	}
	return plan
}
