package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"btrfs-backup/btrfs"
	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/engine"
	"btrfs-backup/transport"
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
	for version, want := range map[string]engine.Format{
		"5.16.2": {Protocol: 1},
		"6.0":    {Protocol: 2, Compressed: true},
	} {
		t.Run(version, func(t *testing.T) {
			calls := filepath.Join(t.TempDir(), "calls")
			fakeBtrfs(t, fmt.Sprintf("echo $* >>%s\necho btrfs-progs v%s", calls, version))
			d, err := NewDestination(t.TempDir(), silent)
			check(t, err)
			for range 3 {
				if got, err := d.Accepts(t.Context()); got != want || err != nil {
					t.Errorf("%+v, %v, want %+v", got, err, want)
				}
			}
			if content, _ := os.ReadFile(calls); string(content) != "--version\n" {
				t.Errorf("the program was asked %q", content)
			}
		})
	}
}

func TestSendCommand(t *testing.T) {
	v1, v2 := engine.Format{Protocol: 1}, engine.Format{Protocol: 2, Compressed: true}
	full := engine.Transfer{Snapshot: btrfs.Subvolume{Name: "new one"}}
	increment := engine.Transfer{Snapshot: full.Snapshot, Parent: &btrfs.Subvolume{Name: "-old"}}
	tests := []struct {
		name      string
		version   string
		kernel    int // its protocol
		verbose   bool
		transfer  engine.Transfer
		format    engine.Format
		options   []string
		arguments string
	}{
		{"complete", "6.2", 2, false, full, v2, nil, "-q --proto 2 --compressed-data DIR/new one"},
		{"increment", "6.2", 2, false, increment, v2, nil, "-q --proto 2 --compressed-data -p DIR/-old DIR/new one"},
		{"verbose", "6.2", 2, true, full, v2, nil, "-vv --proto 2 --compressed-data DIR/new one"},
		{"old receiver", "6.2", 2, false, full, v1, nil, "-q DIR/new one"},
		{"any receiver", "6.2", 2, false, full, engine.Format{}, nil, "-q DIR/new one"},
		{"receiver that wants data plain", "6.2", 2, false, full, engine.Format{Protocol: 2}, nil, "-q --proto 2 DIR/new one"},
		{"receiver of the future", "6.2", 2, false, full, engine.Format{Protocol: 3}, nil, "-q --proto 2 DIR/new one"},
		{"old sender", "5.16.2", 2, false, increment, v2, nil, "-q -p DIR/-old DIR/new one"},
		{"old kernel", "6.2", 1, false, full, v2, nil, "-q DIR/new one"},
		{"measuring", "6.2", 2, false, increment, v2, []string{"--no-data"}, "-q --proto 2 --no-data -p DIR/-old DIR/new one"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			fakeBtrfs(t, "echo btrfs-progs v"+test.version)
			before := kernelProtocol
			kernelProtocol = func() int { return test.kernel }
			defer func() { kernelProtocol = before }()
			o := silent
			o.Verbose = test.verbose
			s, err := NewSource("/home", "/home/snapshot", o)
			check(t, err)
			got, err := s.sendCommand(t.Context(), test.transfer, test.format, test.options...)
			check(t, err)
			want := "btrfs send " + strings.ReplaceAll(test.arguments, "DIR", "/home/snapshot")
			if strings.Join(got, " ") != want || !slices.Contains(got, "/home/snapshot/new one") {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// sendWith makes the btrfs program a script, and sends.
func sendWith(t *testing.T, ctx context.Context, script string) (string, error) {
	t.Helper()
	fakeBtrfs(t, `[ "$1" = send ] || exec echo btrfs-progs v6.2`+"\n"+script)
	s, err := NewSource("/home", "", silent)
	check(t, err)
	var out bytes.Buffer
	err = s.Send(ctx, engine.Transfer{}, engine.Format{}, &out)
	return out.String(), err
}

func TestAFailedSendIsBlamedOnTheProgramThatKnowsWhy(t *testing.T) {
	tests := []struct {
		name, script string
		program      bool // its error is told
		stream       error
	}{
		{"it failed at once", "echo no such snapshot >&2; exit 1", true, nil},
		{"it failed in between", `printf 'btrfs-stream\0\1\0\0\0'; echo lost >&2; exit 1`, true, nil},
		{"it was killed", `printf 'btrfs-stream\0\1\0\0\0'; kill -9 $$`, true, nil},
		{"it wrote nothing", "exit 0", false, sendstream.ErrEmpty},
		{"it ended early", `printf 'btrfs-stream\0\1\0\0\0'`, false, sendstream.ErrTruncated},
		{"it wrote something else, and goes on", "head -c 10000 /dev/zero; exec sleep 1000", false, sendstream.ErrCorrupt},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := sendWith(t, t.Context(), test.script)
			var exit *transport.ExitError
			if err == nil || errors.As(err, &exit) != test.program || test.stream != nil && !errors.Is(err, test.stream) {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestSendEndsWithItsContext(t *testing.T) {
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	started := filepath.Join(t.TempDir(), "started")
	go func() {
		for !exists(started) {
			time.Sleep(time.Millisecond)
		}
		cancel(cause)
	}()
	_, err := sendWith(t, ctx, fmt.Sprintf(`printf 'btrfs-stream\0\1\0\0\0'; : >%s; exec sleep 1000`, started))
	if !errors.Is(err, cause) {
		t.Errorf("error: %v, want %v", err, cause)
	}
}

func TestAMissingProgramComesWithAHint(t *testing.T) {
	forgetProgram(t)
	t.Setenv("PATH", t.TempDir())
	d, err := NewDestination(t.TempDir(), silent)
	check(t, err)
	if _, err := d.Accepts(t.Context()); !strings.Contains(engine.HintOf(err), "install btrfs-progs") {
		t.Errorf("error: %v, hint: %q", err, engine.HintOf(err))
	}
}
