package jobs

import (
	"reflect"
	"slices"
	"strings"

	"github.com/lastseat/lastseat/outbox"
)

// kind is a row of the table of kinds.
type kind struct {
	args     outbox.Args // its struct, from which it has its name and the names of its arguments
	orderBy  string      // the argument by which a lane is chosen, where a queue is split into several
	decode   func(args []byte) (operation, error)
	applied  []string // codes
	rejected []string // codes, besides invalid_args
	does     string
}

// kinds is the table of kinds: what is registered, listed and documented comes from it. TestKinds says what else a kind
// needs, and where; "A new kind of request" in CONTRIBUTING.md walks through it.
var kinds = []kind{
	{
		Transfer{}, "from", decodeTransfer, []string{CodeTransferred}, refusalsOfTransfer,
		"moves an amount from one account to another",
	},
	{
		Charge{}, "payment", decodeCharge, []string{CodeCharged}, append(refusalsOfTransfer, CodeDeclined),
		"has a processor take an amount from a card",
	},
	{
		Authorize{}, "payment", decodeAuthorize, []string{CodeAuthorized},
		append(refusalsOfTransfer, CodeAuthorizationExpired, CodeDeclined),
		"reserves an amount for a payment",
	},
	{
		Capture{}, "payment", decodeCapture, []string{CodeCaptured},
		append(refusalsOfPayment, CodeAlreadyCaptured, CodeAmountExceedsAuthorized, CodeOutOfRange, CodeDeclined),
		"moves what is reserved or a part of it, once, and releases the rest",
	},
	{
		Void{}, "payment", decodeVoid, []string{CodeVoided}, append(refusalsOfPayment, CodeAlreadyCaptured, CodeDeclined),
		"releases what is reserved",
	},
	{
		Refund{}, "payment", decodeRefund, []string{CodeRefunded, CodeReturned},
		append(refusalsOfPayment, CodeAmountExceedsCaptured, CodeInsufficientFunds, CodeOutOfRange, CodeDeclined,
			CodeNotLate),
		"pays back what was captured, at once or in parts",
	},
	{
		Reverse{}, "transfer", decodeReverse, []string{CodeReversed},
		[]string{CodePaymentNotFound, CodeAlreadyReversed, CodeInsufficientFunds, CodeOutOfRange},
		"takes a plain transfer back, once",
	},
	{
		Hold{}, "reservation", decodeHold, []string{CodeHeld, CodeWaiting}, refusalsOfHold,
		"takes the items for a while, or waits for them",
	},
	{
		Confirm{}, "reservation", decodeConfirm, []string{CodeConfirmed}, refusalsOfReservation,
		"makes a hold lasting",
	},
	{
		Cancel{}, "reservation", decodeCancel, []string{CodeCancelled}, refusalsOfReservation,
		"gives up what is held or confirmed, or a place in line",
	},
	{
		Extend{}, "reservation", decodeExtend, []string{CodeExtended}, refusalsOfReservation,
		"changes when a hold expires",
	},
	{
		Book{}, "reservation", decodeBook, []string{CodeBooked}, append(refusalsOfHold, refusalsOfTransfer...),
		"takes the items, confirmed, and pays for them",
	},
}

// What several kinds are refused for. They are clipped: append copies them.
var (
	refusalsOfTransfer = slices.Clip([]string{
		CodeAccountNotFound, CodeCurrencyMismatch, CodeInsufficientFunds, CodeOutOfRange,
	})
	refusalsOfPayment = slices.Clip([]string{
		CodePaymentNotFound, CodeNotAuthorized, CodeAlreadyVoided, CodeAuthorizationExpired,
	})
	refusalsOfHold = slices.Clip([]string{
		CodeResourceNotFound, CodeSoldOut, CodeOverlap, CodeCustomerLimit, CodeOutOfRange, CodeHoldExpired,
	})
	refusalsOfReservation = slices.Clip([]string{CodeReservationNotFound, CodeNotHeld, CodeHoldExpired})
)

// decoders are the kinds' decode functions by the kinds' names.
var decoders = func() map[string]func(args []byte) (operation, error) {
	decoders := make(map[string]func(args []byte) (operation, error))
	for _, kind := range kinds {
		decoders[kind.args.Kind()] = kind.decode
	}
	for _, record := range recordKinds {
		decoders[record.Name] = refuseRecord
	}
	decoders[kindExpire] = decodeExpire
	return decoders
}()

// Register makes a worker of kinds settle all the kinds of this package.
func Register(register *outbox.Kinds) {
	var all []outbox.Kind
	for _, kind := range kinds {
		all = append(all, outbox.Kind{Name: kind.args.Kind(), OrderBy: kind.orderBy, LocksWhatItReads: true})
	}
	register.Register(settler{&cursors{at: make(map[string]cursor)}}, append(all, recordKinds...)...)
}

// Kind describes a kind of request, for tools and documents.
type Kind struct {
	Name     string     // family.verb: payment.transfer
	Args     []Argument // those that it has to have come first
	Applied  []string   // the codes of its outcomes
	Rejected []string   // the codes of its outcomes, besides invalid_args, which every kind has
	Does     string     // what it does, to complete a sentence: "moves an amount from one account to another"
}

// Argument describes an argument of a kind.
type Argument struct {
	Name     string
	Optional bool
	Note     string     // empty: the name says it
	Of       []Argument // of each element, where it is a list
}

// Kinds describes the kinds of this package, payments first.
func Kinds() []Kind {
	var all []Kind
	for _, kind := range kinds {
		all = append(all, Kind{
			Name: kind.args.Kind(), Args: argumentsOf(reflect.TypeOf(kind.args)),
			Applied: slices.Clone(kind.applied), Rejected: distinctCodes(kind.rejected), Does: kind.does,
		})
	}
	return all
}

// Family is the part of the name before the dot: payment.
func (k Kind) Family() string { family, _, _ := strings.Cut(k.Name, "."); return family }

// Verb is the part of the name after the dot: transfer. It is the name of its SQL function and of its command.
func (k Kind) Verb() string { _, verb, _ := strings.Cut(k.Name, "."); return verb }

// Has tells whether the kind has arguments of all these names.
func (k Kind) Has(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		return !slices.ContainsFunc(k.Args, func(arg Argument) bool { return arg.Name == name })
	})
}

// argumentsOf reads the tags of a struct's fields.
func argumentsOf(args reflect.Type) (all []Argument) {
	for field := range args.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		arg := Argument{Name: name, Optional: options != "", Note: field.Tag.Get("note")}
		if field.Type == reflect.TypeFor[[]Item]() {
			arg.Of = argumentsOf(field.Type.Elem())
		}
		all = append(all, arg)
	}
	return all
}

func distinctCodes(codes []string) (distinct []string) {
	for _, code := range codes {
		if !slices.Contains(distinct, code) {
			distinct = append(distinct, code)
		}
	}
	return distinct
}
