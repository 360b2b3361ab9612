package events_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/lastseat/lastseat/internal/relay/events"
	"github.com/lastseat/lastseat/jobs"
)

func compile(t *testing.T, document []byte) *jsonschema.Schema {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("schema.json", parsed); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func validate(t *testing.T, schema *jsonschema.Schema, document []byte) error {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(parsed)
}

// The files in docs are what the code says.
func TestFiles(t *testing.T) {
	t.Parallel()
	for name, describe := range map[string]func() ([]byte, error){"outcome.schema.json": events.Schema, "asyncapi.json": events.AsyncAPI} {
		want, err := describe()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile("../../../docs/" + name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/%s is not up to date (%v): run make docs", name, err)
		}
	}
}

// The AsyncAPI document is one, by the schema of AsyncAPI itself (@asyncapi/specs 6.11.1, Apache-2.0).
func TestAsyncAPI(t *testing.T) {
	t.Parallel()
	packed, err := os.Open("testdata/asyncapi-3.0.0.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	schema := compile(t, text)
	document, err := events.AsyncAPI()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate(t, schema, document); err != nil {
		t.Error(err)
	}
	if validate(t, schema, bytes.Replace(document, []byte(`"action": "send"`), []byte(`"action": "sing"`), 1)) == nil {
		t.Error("a document that is wrong is valid: the schema proves nothing")
	}
	for _, kind := range append(jobs.Kinds(), jobs.Records()...) {
		if !strings.Contains(string(document), `"name": "lastseat.`+kind.Name+`"`) {
			t.Errorf("%s has no message", kind.Name)
		}
	}
}

const event = `{"specversion": "1.0", "id": "lastseat:shop:0a1b2c3d4e5f.740.1.2", "source": "/lastseat/shop",
	"type": "lastseat.payment.transfer", "subject": "order-1", "time": "2026-11-26T12:00:00.123456Z",
	"datacontenttype": "application/json", "data": {"key": "order-1", "kind": "payment.transfer", "status": "applied",
	"code": "transferred", "detail": null, "attempts": 1, "requested_at": "2026-11-26T12:00:00Z",
	"settled_at": "2026-11-26T12:00:00Z", "cursor": "0a1b2c3d4e5f.740.1.2"}}`

// An event is valid, and one that is not as it should be is not.
func TestSchema(t *testing.T) {
	t.Parallel()
	text, err := events.Schema()
	if err != nil {
		t.Fatal(err)
	}
	schema := compile(t, text)
	for change, valid := range map[string]bool{
		"": true,
		`"status": "applied"|"status": "rejected"`:                                          false, // transferred is no refusal
		`"code": "transferred"|"code": "captured"`:                                          false,
		"\"applied\",\n\t\"code\": \"transferred\"|\"rejected\", \"code\": \"overlap\"":     false,
		"\"applied\",\n\t\"code\": \"transferred\"|\"failed\", \"code\": \"job_cancelled\"": true,
		`"code": "transferred"|"code": ""`:                                                  false,
		`"kind": "payment.transfer"|"kind": "payment.void"`:                                 false,
		`payment.transfer|loyalty.add`:                                                      true, // a kind of one's own
		`"detail": null|"detail": {"balance": 7}`:                                           true,
		`"specversion": "1.0"|"specversion": "2.0"`:                                         false,
		`lastseat:shop|shop`:                                                                false,
		`T12:00:00.123456Z| noon`:                                                           false,
		`"attempts": 1|"attempts": "1"`:                                                     false,
		`"subject": "order-1",|`:                                                            false,
	} {
		from, to, _ := strings.Cut(change, "|")
		changed := strings.ReplaceAll(event, from, to)
		if change != "" && changed == event || !json.Valid([]byte(changed)) {
			t.Fatalf("%s changes nothing, or leaves no JSON", change)
		}
		if change == "" {
			changed = event
		}
		if err := validate(t, schema, []byte(changed)); (err == nil) != valid {
			t.Errorf("%s: valid is %t, and it says %v", change, valid, err)
		}
	}
}
