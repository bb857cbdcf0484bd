package tree

import "testing"

func TestADirectoryCountsAsTheNewestThatGoesOnWithIt(t *testing.T) {
	t.Parallel()
	at := func(path string) Origin { return Origin{Source: "laptop:" + path, Machine: "1"} }
	renamed := Origin{Source: "renamed:/a", Machine: "1"}
	tests := []struct {
		name     string
		c        continuations
		of, want Origin
	}{
		{"none", nil, at("/a"), at("/a")},
		{"one", continuations{{at("/a"), at("/b")}}, at("/a"), at("/b")},
		{"the machine was renamed", continuations{{at("/a"), at("/b")}}, renamed, at("/b")},
		{"one after another", continuations{{at("/b"), at("/c")}, {at("/a"), at("/b")}}, at("/a"), at("/c")},
		{"another machine", continuations{{at("/a"), at("/b")}}, Origin{Source: "laptop:/a", Machine: "2"}, Origin{Source: "laptop:/a", Machine: "2"}},
		{"two", continuations{{at("/a"), at("/b")}, {at("/a"), at("/c")}}, at("/a"), at("/a")},
		{"a circle", continuations{{at("/a"), at("/b")}, {at("/b"), at("/a")}}, at("/a"), at("/a")},
	}
	for _, test := range tests {
		if got := test.c.as(test.of); got != test.want {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}
