package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/lock"
)

// patience is how long a test waits for what must happen; soon is how long a target is waited for that never answers.
const (
	patience = 5 * time.Minute
	soon     = 300 * time.Millisecond
)

func TestMain(m *testing.M) {
	if bus := os.Getenv(testDesktop); bus != "" {
		beDesktop(bus)
		return
	}
	dir, err := os.MkdirTemp("", "notify")
	if err == nil {
		err = trust(dir)
	}
	if err != nil {
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newSender(t testing.TB, s Settings) Sender {
	t.Helper()
	if c := s.Check(); len(c) > 0 {
		t.Fatalf("these settings are wrong: %v", c)
	}
	return Sender{Settings: s, State: lock.State{Dir: t.TempDir()}, Log: slog.New(slog.DiscardHandler), patience: patience}
}

func failure() Notice {
	return Notice{Event: Failure, Host: "laptop", Subject: "backup home: failed", Body: "home: the disk is full\n", Jobs: []string{"home"},
		Failures: map[string]string{"home": "the disk is full"}, Report: map[string]string{"outcome": "failed"}, Status: 1,
		Time: time.Date(2026, 11, 29, 1, 30, 0, 0, time.Local)}
}

func success() Notice {
	n := failure()
	n.Event, n.Subject, n.Failures, n.Status = Success, "backup home: done", nil, 0
	return n
}

func send(t testing.TB, s Sender, n Notice) {
	t.Helper()
	check(t, s.Send(t.Context(), n))
}

// wantError fails the test unless the error has all the parts and none of what is secret.
func wantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("it is no error")
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error: %v; it lacks %q", err, part)
		}
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the error tells a secret: %v", err)
	}
}

const secret = "s3cr3t"

// program makes a shell script.
func program(t testing.TB, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	check(t, os.WriteFile(file, []byte("#!/bin/sh\n"+strings.Join(lines, "\n")+"\n"), 0o755))
	return file
}

func read(t testing.TB, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	check(t, err)
	return string(content)
}

// counter makes a command that adds a line to a file each time, and a function that counts them.
func counter(t testing.TB) (argv []string, count func() int) {
	file := filepath.Join(t.TempDir(), "told")
	return []string{program(t, `echo "$BTRFS_BACKUP_SUBJECT" >>"$1"`), file}, func() int {
		content, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Count(string(content), "\n")
	}
}

func TestWithoutTargetsNobodyIsTold(t *testing.T) {
	send(t, newSender(t, Settings{}), failure())
}

func TestTargetsAreToldOfWhatTheyWant(t *testing.T) {
	all := []Event{Start, Success, Recovery, Failure, Stale}
	for _, test := range []struct {
		on   []string
		want []Event
	}{
		{nil, []Event{Recovery, Failure, Stale}},
		{[]string{"failure"}, []Event{Failure}},
		{[]string{"success"}, []Event{Success, Recovery}},
		{[]string{"start", "stale"}, []Event{Start, Stale}},
	} {
		argv, count := counter(t)
		s := newSender(t, Settings{On: test.on, Command: argv})
		for _, event := range all {
			before := count()
			n := failure()
			n.Event = event
			send(t, s, n)
			if isTold := count() > before; isTold != slices.Contains(test.want, event) {
				t.Errorf("on = %q: told of %s: %v", test.on, event, isTold)
			}
		}
	}
}

func TestTheSameFailureIsToldOnceADay(t *testing.T) {
	argv, count := counter(t)
	s := newSender(t, Settings{Command: argv})
	step := func(what string, n Notice, isTold bool) {
		t.Helper()
		before := count()
		send(t, s, n)
		if got := count() > before; got != isTold {
			t.Errorf("%s: told: %v", what, got)
		}
	}
	later := func(n Notice, d time.Duration) Notice { n.Time = n.Time.Add(d); return n }
	because := func(n Notice, why string) Notice { n.Failures = map[string]string{"home": why}; return n }
	step("a failure", failure(), true)
	step("the same again", later(failure(), time.Hour), false)
	step("another reason", because(failure(), "the network is down"), true)
	step("the first reason again", failure(), false)
	stale := failure()
	stale.Event = Stale
	step("another event", stale, true)
	other := failure()
	other.Jobs, other.Failures = []string{"home", "etc"}, map[string]string{"home": "the disk is full", "etc": "the disk is full"}
	step("another job fails, too", other, true)
	start := success()
	start.Event = Start
	step("a start", start, false)
	step("the same after a start", failure(), false)
	unrelated := success()
	unrelated.Jobs = []string{"music"}
	step("a success of another job", unrelated, false)
	step("the same after a success of another job", failure(), false)
	step("a success that nobody wants to know of", success(), false)
	step("the same after a success", failure(), true)
	step("what is stale in spite of a success", stale, false)
	step("the same after less than 24 hours, but on another day", later(failure(), 23*time.Hour), true)
	step("the clock was set back", failure(), true)
	step("numbers", because(failure(), "receiving 20261129-010000: 17 bytes"), true)
	step("other numbers", because(failure(), "receiving 20261129-020000: 4 bytes"), false)
}

func TestAFailureWithoutReasonsIsTheSameUnderTheSameSubject(t *testing.T) {
	argv, count := counter(t)
	s := newSender(t, Settings{Command: argv})
	for _, jobs := range [][]string{{"home"}, nil} {
		n := failure()
		n.Failures, n.Jobs = nil, jobs
		before := count()
		send(t, s, n)
		send(t, s, n)
		if told := count() - before; told != 1 {
			t.Errorf("told %d times", told)
		}
	}
}

func TestATargetThatFailedIsToldTheNextTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "told")
	argv, count := counter(t)
	s := newSender(t, Settings{Command: []string{program(t, `test -e "$1"`), file}})
	wantError(t, s.Send(t.Context(), failure()), "command: program: exit status 1")
	s.Command = argv
	send(t, s, failure())
	send(t, s, failure())
	if count() != 1 {
		t.Errorf("told %d times", count())
	}
	s.On, s.Command = []string{"failure", "success"}, []string{"false"}
	wantError(t, s.Send(t.Context(), success()), "command: false: exit status 1")
	s.Command = argv
	send(t, s, failure())
	if count() != 2 {
		t.Error("a failure after a success of which nobody was told is no news")
	}
}

func TestWithoutARecordAFailureIsToldAgain(t *testing.T) {
	argv, count := counter(t)
	s := newSender(t, Settings{Command: argv})
	send(t, s, failure())
	check(t, os.WriteFile(filepath.Join(s.State.Dir, "notices.json"), []byte("garbage"), 0o600))
	err := s.Send(t.Context(), failure())
	wantError(t, err, "notices.json is damaged")
	if strings.Count(err.Error(), "damaged") != 1 || count() != 2 {
		t.Errorf("told %d times, error: %v", count(), err)
	}
}

func TestTargetsAreToldSideBySideAndEachFailureNamesItsTarget(t *testing.T) {
	web := newWebServer(t, 500)
	pipe := filepath.Join(t.TempDir(), "pipe")
	argv, count := counter(t)
	meet := program(t, `mkfifo "$1" 2>/dev/null; echo >"$1"`) // waits until the other one reads
	check(t, makePipe(pipe))
	sendmailAs(t, program(t, `read line <"`+pipe+`"; cat >/dev/null`))
	s := newSender(t, Settings{MailTo: []string{"root"}, Command: []string{meet, pipe}, Webhook: web.URL + "/" + secret, Ntfy: web.URL + "/" + secret})
	err := s.Send(t.Context(), failure())
	wantError(t, err, "webhook "+web.URL+": 500 Internal Server Error", "ntfy "+web.URL+": 500 Internal Server Error")
	if strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("error: %v", err)
	}
	s.Command = argv
	s.Webhook, s.Ntfy = "", ""
	send(t, s, success())
	if count() != 0 {
		t.Error("it was told of a success")
	}
}

func TestTheEndOfTheContextEndsTheSending(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	started := filepath.Join(t.TempDir(), "started")
	check(t, makePipe(started))
	s := newSender(t, Settings{Command: []string{program(t, `echo >"$1"; exec sleep 1000`), started}})
	ended := make(chan error)
	go func() { ended <- s.Send(ctx, failure()) }()
	read(t, started)
	cancel(errors.New("a signal came"))
	wantError(t, <-ended, "command: a signal came")
}

func TestTextsAreHarmlessAndSmall(t *testing.T) {
	n := failure()
	n.Host, n.Subject, n.Body = "lap\ntop", "backup \x1b[31m"+strings.Repeat("ä", 10_000)+"\xff", "a\r\nb\x1b\xff\n"
	n = n.clean()
	if n.Host != "lap; top" || strings.ContainsAny(n.Subject, "\n\x1b\xff") || len(n.Subject) > 200 || !strings.HasPrefix(n.Subject, "[lap; top] backup ") {
		t.Errorf("subject: %q", n.Subject)
	}
	if want := `a` + "\n" + `b\x1b\xff` + "\n"; n.Body != want {
		t.Errorf("body: %q", n.Body)
	}
}

func TestShortTextsKeepTheirEnds(t *testing.T) {
	for size := range 300 {
		text := strings.Repeat("ä", size)
		short := shorten(text, 150)
		if len(short) > 150 || !strings.HasPrefix(short, text[:min(len(text), 50)]) || !strings.HasSuffix(short, text[len(text)-min(len(text), 50):]) ||
			strings.ToValidUTF8(short, "?") != short {
			t.Fatalf("%d characters become %q", size, short)
		}
		var left int
		if _, rest, cut := strings.Cut(short, "[... "); cut {
			_, err := fmt.Sscanf(rest, "%d bytes are left out", &left)
			check(t, err)
			if kept := strings.Count(short, "ä") * len("ä"); kept+left != len(text) {
				t.Fatalf("%d are kept and %d left out of %d", kept, left, len(text))
			}
		} else if short != text {
			t.Fatalf("%q became %q", text, short)
		}
	}
}
