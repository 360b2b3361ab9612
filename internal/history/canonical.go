package history

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Canonical is one form for all texts of the same JSON value, so that what the lane encoded and what Postgres prints of
// it are equal: no spaces, names in order, the last of several equal names, numbers without an exponent's freedom. What
// is no JSON stays as it is.
func Canonical(text []byte) []byte {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return text
	}
	return appendCanonical(nil, value)
}

func appendCanonical(buf []byte, value any) []byte {
	switch value := value.(type) {
	case nil:
		return append(buf, "null"...)
	case bool:
		return strconv.AppendBool(buf, value)
	case json.Number:
		return append(buf, canonicalNumber(value.String())...)
	case string:
		return strconv.AppendQuote(buf, value)
	case []any:
		buf = append(buf, '[')
		for _, element := range value {
			buf = append(appendCanonical(buf, element), ',')
		}
		return append(buf, ']')
	case map[string]any:
		names := make([]string, 0, len(value))
		for name := range value {
			names = append(names, name)
		}
		slices.Sort(names)
		buf = append(buf, '{')
		for _, name := range names {
			buf = append(strconv.AppendQuote(buf, name), ':')
			buf = append(appendCanonical(buf, value[name]), ',')
		}
		return append(buf, '}')
	}
	return buf
}

// canonicalNumber writes a decimal number as an integer without trailing zeros and an exponent: 1.50 and 15e-1 are
// 15e-1.
func canonicalNumber(text string) string {
	sign := ""
	if rest, negative := strings.CutPrefix(text, "-"); negative {
		sign, text = "-", rest
	}
	mantissa, exponentText, _ := strings.Cut(strings.ToLower(text), "e")
	exponent, _ := strconv.Atoi(exponentText) // none is 0; one that does not fit was refused by Postgres
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exponent -= len(fraction)
	digits := strings.TrimLeft(whole+fraction, "0")
	short := strings.TrimRight(digits, "0")
	if short == "" {
		return "0"
	}
	return sign + short + "e" + strconv.Itoa(exponent+len(digits)-len(short))
}
