package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

func TestStandardStreamsAreHarmless(t *testing.T) {
	t.Parallel()
	env, want := newEnvironment(), reflect.TypeOf(progress.Printable(nil))
	for _, w := range []io.Writer{env.stdout, env.stderr} {
		if got := reflect.TypeOf(w); got != want {
			t.Errorf("a %s writes as it is", got)
		}
	}
}

// writtenTo gives an environment whose standard error is a buffer.
func writtenTo(b *bytes.Buffer, journal bool) environment {
	return environment{stderr: progress.Printable(b), journal: journal,
		now: func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }}
}

func TestWhatComesFromOutsideIsOneHarmlessLine(t *testing.T) {
	t.Parallel()
	const evil = "a\x1b]0;X\x07b\r\u009bc\u202ed\xffe\nbtrfs-backup: error: f"
	const clean = `a\x1b]0;X\ab\r\u009bc\u202ed\xffe; btrfs-backup: error: f`
	var b bytes.Buffer
	env := writtenTo(&b, false)
	complain(env, hint.New(errors.New(evil), evil))
	env.newLog(slog.LevelInfo).Warn(evil, "by", evil)
	want := "btrfs-backup: error: " + clean + "\nbtrfs-backup: hint: " + clean + "\n" +
		"12:00:00  [WARNING]  " + clean + " (by: " + clean + ")\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}

func TestJoinedErrorsHaveTheirOwnLinesAndHints(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	complain(writtenTo(&b, false), errors.Join(hint.New(errors.New("one"), "go"), fmt.Errorf("two: %w", errors.Join(errors.New("a"), errors.New("b")))))
	if want := "btrfs-backup: error: one\nbtrfs-backup: hint: go\nbtrfs-backup: error: two: a; b\n"; b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}

func TestAHintIsToldOnceForErrorsInARow(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	complain(writtenTo(&b, false), hint.New(errors.New("one"), "go"), hint.New(errors.New("two"), "go"), errors.New("three"), hint.New(errors.New("four"), "go"))
	want := "error: one, error: two, hint: go, error: three, error: four, hint: go, "
	if got := strings.NewReplacer("btrfs-backup: ", "", "\n", ", ").Replace(b.String()); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func allHavePriority(said string) bool {
	for line := range strings.Lines(said) {
		if len(line) < 4 || line[0] != '<' || line[2] != '>' {
			return false
		}
	}
	return said != ""
}

func TestTheJournalGetsPrioritiesAndNoClock(t *testing.T) {
	t.Parallel()
	source, destination := newSmallPair(t)
	file := filepath.Join(t.TempDir(), "journal")
	run := func(status int, args ...string) string {
		t.Helper()
		f, err := os.Create(file)
		btrfstest.Check(t, err)
		defer f.Close()
		info, err := f.Stat()
		btrfstest.Check(t, err)
		st := info.Sys().(*syscall.Stat_t)
		script := []string{"sh", "-c", `file=$1; shift; exec btrfs-backup "$@" 2>"$file"`, "sh", file}
		cmd := exec.Command(script[0], append(script[1:], args...)...)
		cmd.Env = append(os.Environ(), fmt.Sprintf("JOURNAL_STREAM=%d:%d", st.Dev, st.Ino))
		expect(t, status, invokeCmd(t, cmd))
		text, err := os.ReadFile(file)
		btrfstest.Check(t, err)
		return string(text)
	}
	said := run(exitDone, "-v", "debug", source, destination)
	for _, want := range []string{"<6>took snapshot ", "<7>the kernel sends "} {
		if !strings.Contains("\n"+said, "\n"+want) {
			t.Errorf("%q begins no line of\n%s", want, said)
		}
	}
	if strings.Contains(said, "--[") {
		t.Errorf("headings are in\n%s", said)
	}
	if !allHavePriority(said) {
		t.Errorf("a line has no priority:\n%s", said)
	}
	said = run(exitFailed, source, "/dev/null/x")
	if !strings.Contains(said, "<3>error: destination /dev/null/x: ") {
		t.Errorf("an error has another priority:\n%s", said)
	}
	for status, commands := range map[int][][]string{
		exitUsage: {{"--no-such"}, {"-N", "x", source}, {"lsit", source}, {"list"}, {"verify", "--json=x", source}, {"help", "nothing"},
			{"rsync", source, destination}, {"-v", "x", "--compress", "lzo", source}, {"@/no/such"}},
		exitFailed: {{"freeze", "/dev/null"}, {"list", "/dev/null"}, {"verify", destination}, {"/no/such", destination}},
	} {
		for _, words := range commands {
			if said := run(status, words...); !allHavePriority(said) {
				t.Errorf("%q says\n%s", words, said)
			}
		}
	}
	if said := expect(t, exitDone, invoke(t, []string{"JOURNAL_STREAM=1:1"}, source, destination)); !strings.Contains(said.stderr, "[INFO ]") {
		t.Errorf("another file is taken for the journal:\n%s", said.stderr)
	}
}
