package outbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// brokenText finds the argument that is not UTF-8, in arguments and what they were encoded to; it returns "" if there
// is none. In JSON that is written by hand such bytes are still there. In any other text encoding/json has replaced
// them by U+FFFD, silently: two texts that are not the same could become the same.
func brokenText(args Args, encoded []byte) (name, value string) {
	if !utf8.Valid(encoded) {
		members := make(map[string]json.RawMessage)
		_ = json.Unmarshal(encoded, &members) // it was valid JSON a moment ago, or is refused by Postgres
		for name, value := range members {
			if !utf8.Valid(value) || !utf8.ValidString(name) {
				return fmt.Sprintf("%q", name), string(value)
			}
		}
		return "the JSON", string(encoded)
	}
	if !bytes.Contains(encoded, []byte(`\ufffd`)) {
		return "", ""
	}
	return brokenIn(reflect.ValueOf(args), "", 0)
}

// brokenIn looks for a text that is not UTF-8 in a value that encoding/json has encoded.
func brokenIn(v reflect.Value, path string, depth int) (name, value string) {
	const deepest = 100
	if depth > deepest {
		return "", ""
	}
	switch v.Kind() {
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return strings.TrimPrefix(path, "."), v.String()
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return brokenIn(v.Elem(), path, depth+1)
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 { // base64, or JSON
			return "", ""
		}
		for i := range v.Len() {
			if name, value = brokenIn(v.Index(i), fmt.Sprintf("%s[%d]", path, i), depth+1); name != "" {
				return name, value
			}
		}
	case reflect.Map:
		return brokenInMap(v, path, depth)
	case reflect.Struct:
		return brokenInStruct(v, path, depth)
	}
	return "", ""
}

func brokenInMap(v reflect.Value, path string, depth int) (name, value string) {
	for key, element := range v.Seq2() {
		if name, value = brokenIn(key, path+".a name", depth+1); name != "" {
			return name, value
		}
		if name, value = brokenIn(element, fmt.Sprintf("%s.%v", path, key), depth+1); name != "" {
			return name, value
		}
	}
	return "", ""
}

func brokenInStruct(v reflect.Value, path string, depth int) (name, value string) {
	for field, element := range v.Fields() {
		member, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if member == "-" || !field.IsExported() && !field.Anonymous {
			continue
		}
		if member == "" {
			member = field.Name
		}
		if name, value = brokenIn(element, path+"."+member, depth+1); name != "" {
			return name, value
		}
	}
	return "", ""
}
