package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/host"
	"btrfs-backup/transport"
)

func TestSendArgumentsAreTheBestThatAllUnderstand(t *testing.T) {
	v1, v2 := sendstream.Format{Protocol: 1}, sendstream.Format{Protocol: 2, Compressed: true}
	tests := []struct {
		name      string
		version   string
		kernel    int // its protocol
		verbose   bool
		parent    string
		format    sendstream.Format
		options   []string
		arguments string
	}{
		{"complete", "6.2", 2, false, "", v2, nil, "-q --proto 2 --compressed-data DIR/new one"},
		{"increment", "6.2", 2, false, "-old", v2, nil, "-q --proto 2 --compressed-data -p DIR/-old DIR/new one"},
		{"verbose", "6.2", 2, true, "", v2, nil, "-vv --proto 2 --compressed-data DIR/new one"},
		{"old receiver", "6.2", 2, false, "", v1, nil, "-q DIR/new one"},
		{"any receiver", "6.2", 2, false, "", sendstream.Format{}, nil, "-q DIR/new one"},
		{"receiver that wants data plain", "6.2", 2, false, "", sendstream.Format{Protocol: 2}, nil, "-q --proto 2 DIR/new one"},
		{"receiver of the future", "6.2", 2, false, "", sendstream.Format{Protocol: 3}, nil, "-q --proto 2 DIR/new one"},
		{"old sender", "5.16.2", 2, false, "-old", v2, nil, "-q -p DIR/-old DIR/new one"},
		{"old kernel", "6.2", 1, false, "", v2, nil, "-q DIR/new one"},
		{"measuring", "6.2", 2, false, "-old", v2, []string{"--no-data"}, "-q --proto 2 --no-data -p DIR/-old DIR/new one"},
	}
	for _, test := range tests {
		own, err := formatOf("btrfs-progs v" + test.version)
		if err != nil {
			t.Fatal(err)
		}
		order := host.SendOrder{Snapshot: "new one", Parent: test.parent, Format: test.format, Verbose: test.verbose}
		got := sendArguments("/home/snapshot", order, own, test.kernel, test.options...)
		want := "send " + strings.ReplaceAll(test.arguments, "DIR", "/home/snapshot")
		if strings.Join(got, " ") != want || !slices.Contains(got, "/home/snapshot/new one") {
			t.Errorf("%s: %q, want %q", test.name, got, want)
		}
	}
}

// localSend makes the btrfs program a script, and sends.
func localSend(t *testing.T, ctx context.Context, script string) (string, error) {
	t.Helper()
	fakeProgram(t, `[ "$1" = send ] || exec echo btrfs-progs v6.2`+"\n"+script)
	d := open(t, newHost(), t.TempDir())
	var out bytes.Buffer
	_, err := d.Send(ctx, host.SendOrder{Snapshot: "new"}, &out)
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
			out, err := localSend(t, t.Context(), test.script)
			var exit *transport.ExitError
			if err == nil || errors.As(err, &exit) != test.program || test.stream != nil && !errors.Is(err, test.stream) {
				t.Errorf("error: %v", err)
			}
			if out != "" {
				t.Errorf("%q came through", out)
			}
		})
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	cause := errors.New("the cause")
	ctx, cancel := context.WithCancelCause(t.Context())
	started := filepath.Join(t.TempDir(), "started")
	go func() {
		waitFor(started)
		cancel(cause)
	}()
	_, err := localSend(t, ctx, fmt.Sprintf(`printf 'btrfs-stream\0\1\0\0\0'; : >%s; exec sleep 1000`, started))
	if !errors.Is(err, cause) {
		t.Errorf("error: %v, want %v", err, cause)
	}
}
