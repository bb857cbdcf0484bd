package survey

import (
	"slices"
	"strings"
	"testing"
)

func TestLongRunsOfZerosAreFound(t *testing.T) {
	t.Parallel()
	z := func(n int) string { return strings.Repeat("\x00", n) }
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, test := range []struct {
		name, content string
		want          []zeros
	}{
		{"nothing", "", nil},
		{"no zeros", x(1 << 20), nil},
		{"all", z(1 << 20), []zeros{{0, 1 << 20}}},
		{"a hole at the end, and the rest of a unit", x(5000) + z(100_000), []zeros{{8192, 102400}}},
		{"data behind it", z(65536) + "x", []zeros{{0, 65536}}},
		{"data in each unit", strings.Repeat("x"+z(4095), 100), nil},
		{"a byte too short", x(1) + z(65536+4094), nil},
		{"just long enough", x(1) + z(65536+4096), []zeros{{4096, 69632}}},
		{"several", z(70000) + x(10) + z(4096) + x(5000) + z(1<<17), []zeros{{0, 69632}, {81920, 208896}}},
	} {
		for _, part := range []int{1, 1000, 4096, 1 << 20} {
			var f zeroFinder
			at := 0
			for p := range slices.Chunk([]byte(test.content), part) {
				f.add(int64(at), p)
				at += len(p)
			}
			want := test.want
			if part%holeUnit != 0 { // as nobody reads
				want = nil
			}
			if got := f.found(); !slices.Equal(got, want) {
				t.Errorf("%s, in parts of %d: %v, want %v", test.name, part, got, want)
			}
		}
	}
}

func TestWhatIsNotReadIsNoRunOfZeros(t *testing.T) {
	t.Parallel()
	var f zeroFinder
	f.add(0, make([]byte, 32<<10))
	f.add(1<<20, make([]byte, 64<<10))
	if got, want := f.found(), []zeros{{1 << 20, 1<<20 + 64<<10}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
