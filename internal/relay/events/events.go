// Package events describes the events of the relays for machines: as a JSON Schema, and as an AsyncAPI document. Both
// are made from the table of kinds.
package events

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/lastseat/lastseat/internal/relay"
	"github.com/lastseat/lastseat/jobs"
	"github.com/lastseat/lastseat/outbox"
)

type object = map[string]any

// kind is a kind with the codes of each status that its outcomes can have.
type kind struct {
	name, does string
	codes      map[outbox.Status][]string
}

func kinds() (all []kind) {
	for _, k := range jobs.Kinds() {
		all = append(all, kind{name: k.Name, does: "A request that " + k.Does, codes: map[outbox.Status][]string{
			outbox.Applied:  k.Applied,
			outbox.Rejected: append(slices.Clone(k.Rejected), outbox.CodeInvalidArgs),
			outbox.Failed:   {outbox.CodeRetriesExhausted, outbox.CodeJobCancelled},
		}})
	}
	for _, record := range jobs.Records() {
		all = append(all, kind{
			name: record.Name, does: record.Does, codes: map[outbox.Status][]string{outbox.Applied: record.Applied},
		})
	}
	return all
}

// envelope is what all events have in common.
func envelope() object {
	text := func(does string) object { return object{"type": "string", "minLength": 1, "description": does} }
	at := func(does string) object { return object{"type": "string", "format": "date-time", "description": does} }
	return object{
		"type": "object",
		"required": []string{
			"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data",
		},
		"properties": object{
			"specversion": object{"const": "1.0"},
			"id": object{
				"type": "string", "pattern": `^lastseat:[^:]*:[0-9a-f]{12}(\.[0-9]+){3}$`,
				"description": "The same whenever the outcome is delivered: whoever looks at it takes each once.",
			},
			"source":          object{"type": "string", "pattern": "^/lastseat/", "description": "The database."},
			"type":            object{"type": "string", "pattern": `^lastseat\.`, "description": "lastseat. and the kind."},
			"subject":         text("The request's key."),
			"time":            at("When it was settled."),
			"datacontenttype": object{"const": "application/json"},
			"data": object{
				"type":     "object",
				"required": []string{"key", "kind", "status", "code", "detail", "attempts", "requested_at", "settled_at", "cursor"},
				"properties": object{
					"key":    text("The request's key."),
					"kind":   text("What was asked for."),
					"status": object{"enum": []outbox.Status{outbox.Applied, outbox.Rejected, outbox.Failed}},
					"code":   text("What exactly happened."),
					"detail": object{"description": "The figures behind the code, in minor units; or null. Integers beyond " +
						"2^53 - 1, either way, are text, because JavaScript would round them."},
					"detail_left_out": object{"type": "boolean", "description": "True: it was too large for the target."},
					"attempts":        object{"type": "integer", "minimum": 0, "description": "How often a worker took it up."},
					"requested_at":    at("When it was asked for."),
					"settled_at":      at("When it was settled."),
					"cursor":          text("Of outcomes_since."),
				},
			},
		},
	}
}

// ofKind is what the events of a kind have besides.
func (k kind) ofKind() object {
	var outcomes []object
	for _, status := range []outbox.Status{outbox.Applied, outbox.Rejected, outbox.Failed} {
		if codes := k.codes[status]; len(codes) > 0 {
			outcomes = append(outcomes, object{"properties": object{
				"status": object{"const": status}, "code": object{"enum": codes},
			}})
		}
	}
	return object{"properties": object{
		"type": object{"const": relay.TypePrefix + k.name},
		"data": object{"properties": object{"kind": object{"const": k.name}}, "oneOf": outcomes},
	}}
}

// Schema is the JSON Schema of an event, of every kind. Kinds of one's own have the envelope only.
func Schema() ([]byte, error) {
	schema := envelope()
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "An outcome of Lastseat, as a CloudEvent 1.0"
	var all []object
	for _, k := range kinds() {
		all = append(all, object{
			"if":   object{"properties": object{"type": object{"const": relay.TypePrefix + k.name}}},
			"then": k.ofKind(),
		})
	}
	schema["allOf"] = all
	return encode(schema)
}

// AsyncAPI is the AsyncAPI 3.0 document of the relays, with a message for each kind.
func AsyncAPI() ([]byte, error) {
	messages, refs := object{}, object{}
	for _, k := range kinds() {
		schema := k.ofKind()
		schema["allOf"] = []object{{"$ref": "#/components/schemas/event"}}
		messages[k.name] = object{
			"name": relay.TypePrefix + k.name, "title": k.name, "summary": k.does + ".",
			"contentType": relay.ContentType, "payload": schema,
		}
		refs[k.name] = object{"$ref": "#/components/messages/" + k.name}
	}
	return encode(object{
		"asyncapi": "3.0.0",
		"info": object{
			"title": "Outcomes of Lastseat", "version": "1.0.0",
			"description": "What a relay delivers, in the order in which it was settled, at least once and with the same id " +
				"each time: to NATS JetStream by the subject lastseat.KIND.CODE, to a topic of Kafka, to a webhook by POST.",
			"license": object{"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
		},
		"defaultContentType": relay.ContentType,
		"channels": object{"outcomes": object{
			"address": nil, "description": "The target of a relay.", "messages": refs,
		}},
		"operations": object{"relay": object{
			"action": "send", "channel": object{"$ref": "#/channels/outcomes"}, "summary": "Delivers an outcome.",
		}},
		"components": object{"messages": messages, "schemas": object{"event": envelope()}},
	})
}

func encode(document object) ([]byte, error) {
	text, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("describe the events: %w", err)
	}
	return append(text, '\n'), nil
}
