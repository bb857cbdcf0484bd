package hint

import (
	"slices"
	"testing"
)

func TestWhatAWordMisspellsIsFound(t *testing.T) {
	names := []string{"20260101-010203", "20260102-010203", "home", "lists"}
	for word, want := range map[string][]string{
		"20260101-010204": {"20260101-010203", "20260102-010203"}, "2026": names[:2], "hmoe": nil, "hom": {"home"}, "hone": {"home"}, "": nil, "xyz": nil, "list": {"lists"},
	} {
		if got := Nearest(word, names); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
