package stripe

import (
	"fmt"
	"math"
	"strings"

	"github.com/lastseat/lastseat/internal/money"
)

// digits are the decimals of the currencies that have other minor units at Stripe than in ISO 4217: two for the krona
// and the Ugandan shilling, which have none any more, and none for the ariary, which has fifths.
// https://docs.stripe.com/currencies, special cases and zero-decimal currencies.
var digits = map[string]int{"ISK": 2, "UGX": 2, "MGA": 0}

// factor is by how much our minor units are multiplied, or divided if it is negative, to have Stripe's.
func factor(currency string) (int64, error) {
	ours, err := money.Digits(currency)
	if err != nil {
		return 0, err
	}
	theirs, differs := digits[currency]
	switch {
	case !differs || theirs == ours:
		return 1, nil
	case theirs > ours:
		return int64(math.Pow10(theirs - ours)), nil
	}
	return -int64(math.Pow10(ours - theirs)), nil
}

// toStripe is an amount in Stripe's minor units. One that they can't tell is an error: it is never rounded.
func toStripe(amount int64, currency string) (int64, error) {
	f, err := factor(currency)
	switch {
	case err != nil:
		return 0, err
	case f < 0 && amount%-f != 0:
		return 0, fmt.Errorf("%d minor units of %s: Stripe takes multiples of %d", amount, currency, -f)
	case f < 0:
		return amount / -f, nil
	case amount > math.MaxInt64/f:
		return 0, fmt.Errorf("%d minor units of %s are too many", amount, currency)
	}
	return amount * f, nil
}

// fromStripe is an amount of Stripe's in ours, and the currency in upper case. What ours can't tell, a hundredth of a
// krona, is an error.
func fromStripe(amount int64, currency string) (int64, string, error) {
	currency = strings.ToUpper(currency)
	f, err := factor(currency)
	switch {
	case err != nil:
		return 0, currency, err
	case f > 0 && amount%f != 0:
		return 0, currency, fmt.Errorf("the %d of %s that Stripe says are no whole minor units", amount, currency)
	case f > 0:
		return amount / f, currency, nil
	case amount > math.MaxInt64/-f:
		return 0, currency, fmt.Errorf("the %d of %s that Stripe says are too many", amount, currency)
	}
	return amount * -f, currency, nil
}
