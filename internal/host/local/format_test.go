package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
)

func TestMajorVersion(t *testing.T) {
	tests := []struct {
		out  string
		want int // 0: cannot be read
	}{
		{"btrfs-progs v6.2", 6},
		{"btrfs-progs v6.2\n", 6},
		{"btrfs-progs v5.16.2 \n", 5},
		{"btrfs-progs v4.20.1-rc2\n", 4},
		{"btrfs-progs v10.0\n", 10},
		{"btrfs-progs v6.17.1\n-EXPERIMENTAL -INJECT -STATIC +LZO +ZSTD +UDEV +FSVERITY +ZONED CRYPTO=libgcrypt\n", 6},
		{"", 0},
		{"btrfs-progs v", 0},
		{"btrfs-progs vX.Y", 0},
		{"Btrfs v0.19", 0},
		{"BusyBox v1.36.1", 0},
	}
	for _, test := range tests {
		got, err := majorVersion(test.out)
		if got != test.want || (err == nil) != (test.want != 0) {
			t.Errorf("%q: %d, %v, want %d", test.out, got, err, test.want)
		}
	}
}

func TestTheFormatIsWhatTheProgramCanDo(t *testing.T) {
	for version, want := range map[string]sendstream.Format{
		"5.16.2": {Protocol: 1},
		"6.0":    {Protocol: 2, Compressed: true},
	} {
		t.Run(version, func(t *testing.T) {
			calls := filepath.Join(t.TempDir(), "calls")
			fakeProgram(t, fmt.Sprintf("echo $* >>%s\necho btrfs-progs v%s", calls, version))
			h := newHost()
			for range 3 {
				if got, err := h.StockFormat(t.Context()); got != want || err != nil {
					t.Errorf("%+v, %v, want %+v", got, err, want)
				}
			}
			if content, _ := os.ReadFile(calls); string(content) != "--version\n" {
				t.Errorf("the program was asked %q", content)
			}
		})
	}
}

func TestTheProgramIsAskedAgainAfterAFailure(t *testing.T) {
	h := newHost()
	t.Run("missing", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := h.StockFormat(t.Context()); !errors.Is(err, exec.ErrNotFound) {
			t.Errorf("error: %v", err)
		}
	})
	fakeProgram(t, "echo btrfs-progs v6.2")
	if got, err := h.StockFormat(t.Context()); got.Protocol != 2 || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
}
