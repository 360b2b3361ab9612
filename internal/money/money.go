// Package money turns decimal text into bigint minor units and back, exactly.
//
// Amounts are stored and computed as int64 minor units (cents of EUR, whole yen of JPY). People write
// decimals. This package is the only place where one becomes the other. It never rounds and never
// guesses: what does not mean exactly one number of minor units is an error.
//
// How many decimals a currency has is ISO 4217's, which is not always what a locale would print: HUF has 2 and ISK has
// 0. Currencies that were defined in a database ([Define]) have as many as it says.
package money

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
)

// defined are the digits of currencies that a database has and ISO 4217 hasn't, by their codes.
var defined sync.Map

// Define makes a currency known that was defined in the database: what ISO 4217 lists stays as it is.
func Define(code string, digits int) { defined.Store(code, digits) }

// Digits is the number of decimals of a currency: 2 for EUR, 0 for JPY, 3 for KWD, 4 for CLF. Codes are upper case;
// anything else is an error that names the code.
func Digits(code string) (int, error) {
	if digits, ok := listed[code]; ok {
		return digits, nil
	}
	if digits, ok := defined.Load(code); ok {
		return digits.(int), nil
	}
	if upper := strings.ToUpper(code); upper != code {
		if _, err := Digits(upper); err == nil {
			return 0, fmt.Errorf("currency %s is not in upper case: write %s", quote(code), upper)
		}
	}
	return 0, fmt.Errorf("currency %s is not an ISO 4217 code: write three letters, such as EUR", quote(code))
}

// Parse reads a decimal in the currency's unit as minor units: Parse("12.50", "EUR") is 1250, and
// Parse("12.5", "EUR") too. It takes an optional '-', digits, and optionally a '.' and more digits;
// no '+', exponent, space or thousands separator.
//
// More decimals than the currency has are an error even where they are zeros: "1.500" is one and a half
// to one reader and one and a half thousand to another. Beyond int64 is an error as well. Every error
// names the value.
func Parse(amount, code string) (int64, error) {
	digits, err := Digits(code)
	if err != nil {
		return 0, err
	}
	unsigned, negative := strings.CutPrefix(amount, "-")
	whole, fraction, point := strings.Cut(unsigned, ".")
	if !isDigits(whole) || point && !isDigits(fraction) {
		return 0, syntaxError(amount, code, digits)
	}
	if len(fraction) > digits {
		return 0, decimalsError(amount, code, fraction, digits)
	}
	minor, ok := accumulate(whole, fraction, digits)
	if !ok || !negative && minor == math.MinInt64 {
		return 0, fmt.Errorf("amount %s %s is out of range: write one between %s and %s", quote(amount), code,
			Format(math.MinInt64, code), Format(math.MaxInt64, code))
	}
	if !negative {
		minor = -minor
	}
	return minor, nil
}

// Format writes minor units as a decimal in the currency's unit, with all its decimals and no separators:
// Format(-1250, "EUR") is "-12.50". Parse reads it back to the same number.
//
// Of an unknown currency it says "1250 minor units": where the point belongs isn't known, and a bare
// number would be read as whole units.
func Format(minor int64, code string) string {
	text := strconv.FormatInt(minor, 10)
	digits, err := Digits(code)
	if err != nil {
		return text + " minor units"
	}
	if digits == 0 {
		return text
	}
	// On the text, not on the number: -math.MinInt64 does not exist.
	unsigned, negative := strings.CutPrefix(text, "-")
	if missing := digits + 1 - len(unsigned); missing > 0 {
		unsigned = strings.Repeat("0", missing) + unsigned
	}
	point := len(unsigned) - digits
	decimal := unsigned[:point] + "." + unsigned[point:]
	if negative {
		return "-" + decimal
	}
	return decimal
}

// accumulate reads whole and fraction, filled up to digits decimals, as one number below zero. Below zero,
// because int64 reaches one further down there: math.MinInt64 is an amount like any other.
func accumulate(whole, fraction string, digits int) (int64, bool) {
	var minor int64
	for i := range len(whole) + digits {
		var digit int64
		switch {
		case i < len(whole):
			digit = int64(whole[i] - '0')
		case i-len(whole) < len(fraction):
			digit = int64(fraction[i-len(whole)] - '0')
		}
		// Go truncates towards zero, so this is the smallest minor for which minor*10 - digit still fits.
		if minor < (math.MinInt64+digit)/10 {
			return 0, false
		}
		minor = minor*10 - digit
	}
	return minor, true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func syntaxError(amount, code string, digits int) error {
	example := "12"
	if digits > 0 {
		example += ".5" + strings.Repeat("0", digits-1)
	}
	return fmt.Errorf("amount %s is not a plain decimal: write digits and at most one '.' between them, such as %s for %s",
		quote(amount), example, code)
}

func decimalsError(amount, code, fraction string, digits int) error {
	if strings.Trim(fraction[digits:], "0") != "" {
		return fmt.Errorf("amount %s has %s and %s has %s: amounts are never rounded, write the one you mean",
			quote(amount), decimals(len(fraction)), code, decimals(digits))
	}
	return fmt.Errorf(
		"amount %s has %s and %s has %s: leave out the extra zeros, they may stand for another currency or for thousands",
		quote(amount), decimals(len(fraction)), code, decimals(digits))
}

func decimals(n int) string {
	switch n {
	case 0:
		return "no decimals"
	case 1:
		return "1 decimal"
	}
	return strconv.Itoa(n) + " decimals"
}

// quote keeps an error to one short line whatever the value holds.
func quote(s string) string {
	const longest = 60 // longer than any amount that fits
	if len(s) <= longest {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:longest]) + fmt.Sprintf("... (%d bytes)", len(s))
}
