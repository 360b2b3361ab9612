package money

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		amount, currency string
		want             int64
	}{
		{"12.50", "EUR", 1250},
		{"12.5", "EUR", 1250},
		{"12", "EUR", 1200},
		{"0", "EUR", 0},
		{"-0.00", "EUR", 0},
		{"0.01", "EUR", 1},
		{"-0.01", "EUR", -1},
		{"007.50", "EUR", 750},
		{"00000000000000000000000000000001", "EUR", 100},
		{"1200", "JPY", 1200},
		{"-1200", "JPY", -1200},
		{"1.234", "KWD", 1234},
		{"1.2", "KWD", 1200},
		{"1.2345", "CLF", 12345},
		{"92233720368547758.07", "EUR", math.MaxInt64},
		{"-92233720368547758.08", "EUR", math.MinInt64},
		{"-9223372036854775808", "JPY", math.MinInt64},
		{"9223372036854775807", "JPY", math.MaxInt64},
	} {
		got, err := Parse(tt.amount, tt.currency)
		if err != nil || got != tt.want {
			t.Errorf("Parse(%q, %q) = %d, %v; want %d", tt.amount, tt.currency, got, err, tt.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ amount, currency, want string }{
		{"", "EUR", `amount "" is not a plain decimal: write digits and at most one '.' between them, such as 12.50 for EUR`},
		{"", "JPY", `amount "" is not a plain decimal: write digits and at most one '.' between them, such as 12 for JPY`},
		{"1,5", "KWD",
			`amount "1,5" is not a plain decimal: write digits and at most one '.' between them, such as 12.500 for KWD`},
		{"1.234", "EUR",
			`amount "1.234" has 3 decimals and EUR has 2 decimals: amounts are never rounded, write the one you mean`},
		{"1.5", "JPY",
			`amount "1.5" has 1 decimal and JPY has no decimals: amounts are never rounded, write the one you mean`},
		{"1.500", "EUR",
			`amount "1.500" has 3 decimals and EUR has 2 decimals: leave out the extra zeros, they may stand for another currency or for thousands`},
		{"1.000", "JPY",
			`amount "1.000" has 3 decimals and JPY has no decimals: leave out the extra zeros, they may stand for another currency or for thousands`},
		{"92233720368547758.08", "EUR",
			`amount "92233720368547758.08" EUR is out of range: write one between -92233720368547758.08 and 92233720368547758.07`},
		{"-9223372036854775809", "JPY",
			`amount "-9223372036854775809" JPY is out of range: write one between -9223372036854775808 and 9223372036854775807`},
		{strings.Repeat("9", 1000), "JPY", `amount "` + strings.Repeat("9", 60) +
			`"... (1000 bytes) JPY is out of range: write one between -9223372036854775808 and 9223372036854775807`},
		{"1", "eur", `currency "eur" is not in upper case: write EUR`},
		{"1", "Eur", `currency "Eur" is not in upper case: write EUR`},
		{"1", "EURO", `currency "EURO" is not an ISO 4217 code: write three letters, such as EUR`},
		{"1", " EUR", `currency " EUR" is not an ISO 4217 code: write three letters, such as EUR`},
		{"1", "", `currency "" is not an ISO 4217 code: write three letters, such as EUR`},
	} {
		got, err := Parse(tt.amount, tt.currency)
		if err == nil || err.Error() != tt.want || got != 0 {
			t.Errorf("Parse(%q, %q) = %d\n got %v\nwant %s", tt.amount, tt.currency, got, err, tt.want)
		}
	}
	for _, amount := range []string{
		".5", "5.", ".", "-", "-.5", "--5", "+5", "1e3", "1E3", "0x10", "1_000", " 5", "5 ", "5\n", "1 000", "1,000.00",
		"1.2.3",
		"1.-5", "inf", "NaN", "٣", "5\x00", "\xff", "€5", "5 EUR",
	} {
		if got, err := Parse(amount, "EUR"); err == nil || !strings.Contains(err.Error(), "is not a plain decimal") {
			t.Errorf("Parse(%q) = %d, %v; want it refused as not a plain decimal", amount, got, err)
		}
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		minor    int64
		currency string
		want     string
	}{
		{1250, "EUR", "12.50"},
		{-1250, "EUR", "-12.50"},
		{0, "EUR", "0.00"},
		{5, "EUR", "0.05"},
		{-5, "EUR", "-0.05"},
		{100, "EUR", "1.00"},
		{5, "JPY", "5"},
		{-5, "KWD", "-0.005"},
		{12345, "CLF", "1.2345"},
		{math.MinInt64, "EUR", "-92233720368547758.08"},
		{math.MinInt64, "JPY", "-9223372036854775808"},
		{math.MaxInt64, "CLF", "922337203685477.5807"},
		{1250, "ZZZ", "1250 minor units"},
	} {
		if got := Format(tt.minor, tt.currency); got != tt.want {
			t.Errorf("Format(%d, %q) = %q; want %q", tt.minor, tt.currency, got, tt.want)
		}
	}
}

// The library takes its names from CLDR, whose decimals differ from ISO's in places (CLDR prints HUF, IQD and
// ISK differently). These are the ones that would tell.
func TestDigitsAreISO4217(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]int{
		"EUR": 2, "USD": 2, "CZK": 2, "HUF": 2, "IDR": 2, "TWD": 2, "MGA": 2, "MRU": 2, "AFN": 2, "IRR": 2, "LBP": 2,
		"JPY": 0, "KRW": 0, "ISK": 0, "UGX": 0, "CLP": 0, "VND": 0, "XOF": 0,
		"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
		"CLF": 4, "UYW": 4,
	} {
		if got, err := Digits(code); err != nil || got != want {
			t.Errorf("Digits(%q) = %d, %v; want %d", code, got, err, want)
		}
	}
}

func TestParseReadsWhatFormatWrites(t *testing.T) {
	t.Parallel()
	codes := slices.Collect(maps.Keys(listed))
	seen := map[int]bool{}
	for _, code := range codes {
		digits, err := Digits(code)
		if err != nil {
			t.Fatal(err)
		}
		seen[digits] = true
	}
	for _, digits := range []int{0, 2, 3, 4} {
		if !seen[digits] {
			t.Errorf("no currency of %d decimals: the property below would not cover it", digits)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		minor := rapid.Int64().Draw(t, "minor")
		for _, code := range codes { // every currency for every number: it is cheap
			text := Format(minor, code)
			if got, err := Parse(text, code); err != nil || got != minor {
				t.Fatalf("Parse(Format(%d, %s) = %q) = %d, %v", minor, code, text, got, err)
			}
		}
	})
}

// What is accepted means one number: formatted again it is the same amount, up to zeros that say nothing.
func FuzzParse(f *testing.F) {
	for _, amount := range []string{"12.50", "-0", ".5", "5.", "1e3", "-92233720368547758.08", "1.500", "\xff", "00.1"} {
		for _, code := range []string{"EUR", "JPY", "KWD", "CLF", "eur", ""} {
			f.Add(amount, code)
		}
	}
	f.Fuzz(func(t *testing.T, amount, code string) {
		minor, err := Parse(amount, code)
		if err != nil {
			if minor != 0 || strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 600 {
				t.Fatalf("Parse(%q, %q) = %d, %q: want 0 and one short line", amount, code, minor, err)
			}
			return
		}
		if got, want := canonical(Format(minor, code)), canonical(amount); got != want {
			t.Fatalf("Parse(%q, %q) = %d, which is %s", amount, code, minor, Format(minor, code))
		}
	})
}

// canonical drops the zeros that say nothing and the sign of zero, on text alone, so that it shares no code with Parse.
func canonical(decimal string) string {
	unsigned, negative := strings.CutPrefix(decimal, "-")
	whole, fraction, _ := strings.Cut(unsigned, ".")
	whole, fraction = strings.TrimLeft(whole, "0"), strings.TrimRight(fraction, "0")
	if negative && whole+fraction != "" {
		whole = "-" + whole
	}
	return whole + "." + fraction
}
