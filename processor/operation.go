package processor

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Operation is one movement of money at a processor. Every attempt at it has the same content.
type Operation struct {
	Kind Kind
	// Key is the operation's idempotency key: 1 to 255 visible ASCII characters, the same at every attempt and of no
	// other operation. [Key] makes one.
	Key string
	// Payment is our id of the payment, 1 to 200 characters. The processor keeps it with the charge, for people and for
	// webhooks.
	Payment string
	// Reference is the processor's id of the charge that Capture, Void, Refund and Return are about: [Answer.Reference] of
	// its authorization or charge.
	Reference string
	// Method is the processor's token of the card that Authorize and Charge use. A card's number never comes here.
	Method string
	// Customer is the processor's id of the customer that the card belongs to, if it belongs to one.
	Customer string
	// Amount is in minor units of the currency as ISO 4217 has them, at least 1. Void and Return
	// have none.
	Amount int64
	// Currency is the code of ISO 4217 in upper case. The others have that of the charge.
	Currency string
	// Metadata is kept with what Authorize, Charge and Refund make: up to 20 names of 1 to 40 ASCII characters, with
	// values of up to 500. Names that begin with "lastseat" are ours.
	Metadata map[string]string
}

// Check returns an error of [ErrInvalid] if an operation lacks something that its kind needs, or has what no
// processor takes. A [Gateway] checks each operation; whoever writes one down may check it before.
func (o Operation) Check() error {
	for _, fault := range []string{faultOfIDs(o), faultOfAmount(o), faultOfMetadata(o.Metadata)} {
		if fault != "" {
			return fmt.Errorf("%w: %s", ErrInvalid, fault)
		}
	}
	return nil
}

func faultOfIDs(o Operation) string {
	switch {
	case !slices.Contains([]Kind{Authorize, Charge, Capture, Void, Refund, Return}, o.Kind):
		return fmt.Sprintf("its kind is %q", o.Kind)
	case o.Key == "" || len(o.Key) > 255 || !visible(o.Key):
		return "its key is not 1 to 255 visible ASCII characters"
	case o.Payment == "" || utf8.RuneCountInString(o.Payment) > 200 || !utf8.ValidString(o.Payment):
		return "the payment's id is not 1 to 200 characters"
	case o.starts() && (o.Method == "" || !visible(o.Method)):
		return "it has no token of a card"
	case o.starts() == (o.Reference != "") || !visible(o.Reference):
		return fmt.Sprintf("a %s with the reference %q", o.Kind, o.Reference)
	case !visible(o.Customer):
		return fmt.Sprintf("the customer is %q", o.Customer)
	}
	return ""
}

func faultOfAmount(o Operation) string {
	switch {
	case (o.Kind == Void || o.Kind == Return) != (o.Amount == 0) || o.Amount < 0:
		return fmt.Sprintf("a %s of the amount %d", o.Kind, o.Amount)
	case len(o.Currency) != 3 || strings.Trim(o.Currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "":
		return fmt.Sprintf("the currency is %q", o.Currency)
	}
	return ""
}

// starts tells whether the operation makes a charge; the others are about one that there is.
func (o Operation) starts() bool { return o.Kind == Authorize || o.Kind == Charge }

func faultOfMetadata(metadata map[string]string) string {
	if len(metadata) > 20 {
		return "it has more than 20 metadata"
	}
	for name, value := range metadata {
		switch {
		case name == "" || len(name) > 40 || !visible(name) || strings.ContainsAny(name, "[]"):
			return fmt.Sprintf("the metadata %q: a name is 1 to 40 visible ASCII characters, without [ and ]", name)
		case strings.HasPrefix(name, "lastseat"):
			return fmt.Sprintf("the metadata %q: names that begin with lastseat are taken", name)
		case value == "" || utf8.RuneCountInString(value) > 500 || !utf8.ValidString(value):
			return fmt.Sprintf("the metadata %q: a value is 1 to 500 characters", name)
		}
	}
	return ""
}

// visible tells whether a text, empty or not, has nothing but visible ASCII characters.
func visible(text string) bool {
	return strings.IndexFunc(text, func(c rune) bool { return c < '!' || c > '~' }) < 0
}
