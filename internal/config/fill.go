package config

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/due"
)

// fill sets the fields of a struct by their tags.
func (r *reader) fill(t *table, into any) {
	fields := make(map[string]reflect.Value)
	var names []string
	v := reflect.ValueOf(into).Elem()
	for i := range v.NumField() {
		if name := v.Type().Field(i).Tag.Get("toml"); name != "" {
			fields[name] = v.Field(i)
			names = append(names, name)
		}
	}
	for _, key := range t.keys {
		field, ok := fields[key]
		if !ok {
			r.unknown(t, key, names)
			continue
		}
		if err := assign(field, t.values[key]); err != nil {
			r.complain(t.values[key].Origin, "", "%s %w", key, err)
		}
	}
}

// assign sets a field to a value of its kind.
func assign(field reflect.Value, v value) error {
	if text, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		content, isText := v.any.(string)
		if !isText {
			return needs("a text in quotes", v)
		}
		return text.UnmarshalText([]byte(content))
	}
	switch target := field.Addr().Interface().(type) {
	case *[]string:
		words, err := v.words()
		*target = words
		return err
	case *time.Duration:
		content, _ := v.any.(string)
		duration, err := due.ParseDuration(content)
		*target = duration
		return err
	}
	switch content := v.any.(type) {
	case string:
		if field.Kind() == reflect.String {
			field.SetString(content)
			return nil
		}
	case bool:
		if field.Kind() == reflect.Bool {
			field.SetBool(content)
			return nil
		}
	case int64:
		if field.Kind() == reflect.Int && math.MinInt32 < content && content < math.MaxInt32 {
			field.SetInt(content)
			return nil
		}
	}
	return needs(map[reflect.Kind]string{reflect.String: "a text in quotes", reflect.Bool: "true or false", reflect.Int: "a number"}[field.Kind()], v)
}

func needs(what string, v value) error { return fmt.Errorf("needs %s, not %s", what, v) }

// words gives the elements of a list of texts; a single text stands for a list of one.
func (v value) words() ([]string, error) {
	elements, isList := v.any.([]value)
	if !isList {
		elements = []value{v}
	}
	words := make([]string, len(elements))
	for i, e := range elements {
		word, ok := e.any.(string)
		if !ok {
			return nil, needs("texts in quotes", e)
		}
		words[i] = word
	}
	return words, nil
}
