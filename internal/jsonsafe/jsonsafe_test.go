package jsonsafe

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

func TestNumbers(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		`9007199254740991`: `9007199254740991`, `-9007199254740991`: `-9007199254740991`,
		`9007199254740992`: `"9007199254740992"`, `-9007199254740992`: `"-9007199254740992"`,
		`[9223372036854775807,1,-9223372036854775808]`: `["9223372036854775807",1,"-9223372036854775808"]`,
		`{"9007199254740993":9007199254740993,"a\"9007199254740993":"9007199254740993\\"}`://
		`{"9007199254740993":"9007199254740993","a\"9007199254740993":"9007199254740993\\"}`,
		`1e300`: `1e300`, `12345678901234567890.5`: `12345678901234567890.5`, `{}`: `{}`, `""`: `""`, `null`: `null`,
		`123456789012345678901234567890`: `"123456789012345678901234567890"`,
	} {
		if got := string(Numbers([]byte(given))); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
}

// Whatever goes in comes out: integers of 64 bits as numbers or text, and every text to the letter.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.StringOf(rapid.RuneFrom(nil, unicode.Cf, unicode.Cc, unicode.L))
		value := map[string]any{
			"n": rapid.Int64().Draw(t, "n"), "list": rapid.SliceOf(rapid.Int64()).Draw(t, "list"),
			rapid.String().Draw(t, "key"): texts.Draw(t, "text"),
		}
		plain, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		safe, err := Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.IndexFunc(safe, Moves); at >= 0 {
			t.Fatalf("%q holds what a terminal obeys", safe)
		}
		if got, want := asText(t, safe), asText(t, plain); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s reads %v, want %v", safe, got, want)
		}
	})
}

// asText reads JSON with its numbers as text.
func asText(t *rapid.T, text []byte) any {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value map[string]any
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var plain func(any) any
	plain = func(v any) any {
		switch v := v.(type) {
		case json.Number:
			return v.String()
		case map[string]any:
			for key := range v {
				v[key] = plain(v[key])
			}
		case []any:
			for i := range v {
				v[i] = plain(v[i])
			}
		}
		return v
	}
	return plain(value)
}

func TestVisible(t *testing.T) {
	t.Parallel()
	var line strings.Builder
	if err := Encode(&line, "a\x1b[2J\u009b\u202eb\u00ad\U000e0041c\té"); err != nil {
		t.Fatal(err)
	}
	if got, want := line.String(), `"a\u001b[2J\u009b\u202eb\u00ad\udb40\udc41c\té"`+"\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
