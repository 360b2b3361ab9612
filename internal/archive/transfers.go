package archive

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/lastseat/lastseat/internal/history"
)

// transfer is a row of transfers in a file, with the times of its two entries. Times are UTC.
type transfer struct {
	ID          int64     `parquet:"id"`
	Key         string    `parquet:"key"`
	Leg         int64     `parquet:"leg"`
	From        string    `parquet:"from_account,dict"`
	To          string    `parquet:"to_account,dict"`
	Amount      int64     `parquet:"amount"` // minor units
	Currency    string    `parquet:"currency,dict"`
	Payment     *string   `parquet:"payment_id,optional"`
	Reverses    *int64    `parquet:"reverses_id,optional"`
	Description *string   `parquet:"description,optional"`
	Metadata    *string   `parquet:"metadata,optional"`
	CreatedAt   time.Time `parquet:"created_at,timestamp(microsecond)"`
	TakenAt     time.Time `parquet:"taken_at,timestamp(microsecond)"`
	GivenAt     time.Time `parquet:"given_at,timestamp(microsecond)"`
}

var transferColumns = []string{"id", "key", "leg", "from_account", "to_account", "amount", "currency", "payment_id",
	"reverses_id", "description", "metadata", "created_at", "taken_at", "given_at"}

// optional is nil for what stands for null.
func optional[T comparable](value T) *T {
	var null T
	if value == null {
		return nil
	}
	return &value
}

func orNull[T any](value *T) (v T) {
	if value != nil {
		v = *value
	}
	return v
}

func fromTransfer(t *history.Transfer) transfer {
	r := transfer{ID: t.ID, Key: t.Key, Leg: int64(t.Leg), From: t.From, To: t.To, Amount: t.Amount, Currency: t.Currency,
		Payment: optional(t.Payment), Reverses: optional(t.Reverses), Description: optional(t.Description),
		CreatedAt: t.CreatedAt.UTC(), TakenAt: t.TakenAt.UTC(), GivenAt: t.GivenAt.UTC()}
	if t.Metadata != nil {
		r.Metadata = new(string(t.Metadata))
	}
	return r
}

func (r *transfer) toHistory() *history.Transfer {
	t := &history.Transfer{ID: r.ID, Key: r.Key, Leg: int(r.Leg), From: r.From, To: r.To, Amount: r.Amount,
		Currency: r.Currency, Payment: orNull(r.Payment), Reverses: orNull(r.Reverses), Description: orNull(r.Description),
		CreatedAt: r.CreatedAt, TakenAt: r.TakenAt, GivenAt: r.GivenAt}
	if r.Metadata != nil {
		t.Metadata = []byte(*r.Metadata)
	}
	return t
}

// cells: the description is JSON, for CSV keeps no carriage return; an empty cell is null.
func (r *transfer) cells() []string {
	description, reverses := "", ""
	if r.Description != nil {
		quoted, _ := json.Marshal(*r.Description) // a string is always marshalled
		description = string(quoted)
	}
	if r.Reverses != nil {
		reverses = strconv.FormatInt(*r.Reverses, 10)
	}
	return []string{strconv.FormatInt(r.ID, 10), r.Key, strconv.FormatInt(r.Leg, 10), r.From, r.To,
		strconv.FormatInt(r.Amount, 10), r.Currency, orNull(r.Payment), reverses, description, orNull(r.Metadata),
		r.CreatedAt.Format(time.RFC3339Nano), r.TakenAt.Format(time.RFC3339Nano), r.GivenAt.Format(time.RFC3339Nano)}
}

func parseTransfer(cells []string) (transfer, error) {
	r := transfer{Key: cells[1], From: cells[3], To: cells[4], Currency: cells[6], Payment: optional(cells[7]),
		Metadata: optional(cells[10])}
	var all [8]error
	r.ID, all[0] = strconv.ParseInt(cells[0], 10, 64)
	r.Leg, all[1] = strconv.ParseInt(cells[2], 10, 64)
	r.Amount, all[2] = strconv.ParseInt(cells[5], 10, 64)
	if cells[8] != "" {
		var reverses int64
		reverses, all[3] = strconv.ParseInt(cells[8], 10, 64)
		r.Reverses = &reverses
	}
	if cells[9] != "" {
		all[4] = json.Unmarshal([]byte(cells[9]), &r.Description)
	}
	r.CreatedAt, all[5] = time.Parse(time.RFC3339Nano, cells[11])
	r.TakenAt, all[6] = time.Parse(time.RFC3339Nano, cells[12])
	r.GivenAt, all[7] = time.Parse(time.RFC3339Nano, cells[13])
	return r, errors.Join(all[:]...)
}
