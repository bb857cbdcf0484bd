package notify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func makePipe(file string) error { return unix.Mkfifo(file, 0o600) }

func TestACommandGetsTheReportAndWhatItIsAbout(t *testing.T) {
	dir := t.TempDir()
	s := newSender(t, Settings{Command: []string{program(t, `cd "$1"`, `cat >report`,
		`printf '%s|' "$BTRFS_BACKUP_EVENT" "$BTRFS_BACKUP_HOST" "$BTRFS_BACKUP_JOBS" "$BTRFS_BACKUP_SUBJECT" >variables`), dir}})
	n := failure()
	n.Jobs = []string{"home", "e\x00tc\n"}
	send(t, s, n)
	if got := read(t, filepath.Join(dir, "report")); got != n.Body {
		t.Errorf("report: %q", got)
	}
	if got := read(t, filepath.Join(dir, "variables")); got != `failure|laptop|home e\x00tc|[laptop] backup home: failed|` {
		t.Errorf("variables: %q", got)
	}
}

func TestACommandThatFailsTellsWhyWithoutItsArguments(t *testing.T) {
	s := newSender(t, Settings{Command: []string{program(t, "echo no network >&2; exit 3"), secret}})
	wantError(t, s.Send(t.Context(), failure()), "command: program: no network")
	s.Command = []string{"/nonexistent/program", secret}
	wantError(t, s.Send(t.Context(), failure()), "command: starting program: ", "no such file or directory")
}

func TestACommandNeedNotReadALargeReport(t *testing.T) {
	n := failure()
	n.Body = strings.Repeat("x", 10<<20)
	send(t, newSender(t, Settings{Command: []string{"true"}}), n)
	file := filepath.Join(t.TempDir(), "report")
	send(t, newSender(t, Settings{Command: []string{program(t, `cat >"$1"`), file}}), n)
	if size := len(read(t, file)); size > maxText || size < maxText-10 {
		t.Errorf("%d bytes", size)
	}
}

func TestWhatACommandLeavesBehindIsNotWaitedFor(t *testing.T) {
	n := failure()
	n.Body = strings.Repeat("x", maxText)
	ended := filepath.Join(t.TempDir(), "ended")
	send(t, newSender(t, Settings{Command: []string{program(t, "exec 3<&0", `{ sleep 30; echo >"$1"; } <&3 >/dev/null 2>&1 &`), ended}}), n)
	if _, err := os.Stat(ended); err == nil {
		t.Error("it was waited for")
	}
}

func TestACommandThatFloodsOrHangsIsEnded(t *testing.T) {
	for _, line := range []string{"exec yes", "exec yes >&2", "exec sleep 1000", "tail -f /dev/null | cat", "trap '' TERM; while :; do sleep 1; done"} {
		s := newSender(t, Settings{Command: []string{program(t, line)}})
		s.patience = soon
		wantError(t, s.Send(t.Context(), failure()), "command: no answer within 300ms")
	}
}

func TestAPasswordIsTheFirstLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Dir(file))
	check(t, os.WriteFile(file, []byte("pass word \r\nuser: me\n"), 0o600))
	for _, s := range []Settings{{PasswordFile: file}, {PasswordFile: "password"}, {PasswordCommand: []string{"cat", file}}} {
		s.SMTP, s.MailFrom, s.MailTo = "smtps://me@localhost", "me@example.org", []string{"me@example.org"}
		if got, err := newSender(t, s).password(t.Context()); got != "pass word " || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestAPasswordThatCannotBeHadIsAnError(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	dir := t.TempDir()
	pipe, empty, large := filepath.Join(dir, "pipe"), filepath.Join(dir, "empty"), filepath.Join(dir, "large")
	check(t, makePipe(pipe))
	check(t, os.WriteFile(empty, []byte("\nnot the first line"), 0o600))
	check(t, os.WriteFile(large, []byte(strings.Repeat("x", 1<<20)), 0o600))
	for _, test := range []struct {
		Settings
		want string
	}{
		{Settings{PasswordFile: "mail"}, "password-file: systemd gave no credential mail"},
		{Settings{PasswordFile: filepath.Join(dir, "missing")}, "no such file or directory"},
		{Settings{PasswordFile: empty}, "password-file: the first line is empty"},
		{Settings{PasswordFile: pipe}, "password-file: the first line is empty"},
		{Settings{PasswordFile: large}, "password-file: more than 4096 bytes"},
		{Settings{PasswordCommand: []string{program(t, "echo locked >&2; exit 1")}}, "password-command: program: locked"},
		{Settings{PasswordCommand: []string{"yes"}}, "password-command: more than 4096 bytes"},
		{Settings{PasswordCommand: []string{"true"}}, "password-command: the first line is empty"},
	} {
		got, err := Sender{Settings: test.Settings, Log: newSender(t, Settings{}).Log}.password(t.Context())
		if got != "" {
			t.Errorf("%q", got)
		}
		wantError(t, err, test.want)
	}
}

func TestAPasswordCommandThatHangsIsEnded(t *testing.T) {
	for _, line := range []string{"exec sleep 1000", "sleep 30 & exit 0"} {
		s := newSender(t, Settings{MailTo: []string{"me@example.org"}, MailFrom: "me@example.org", SMTP: "smtp://me@localhost:1",
			PasswordCommand: []string{program(t, line)}})
		s.patience = soon
		wantError(t, s.Send(t.Context(), failure()), "no answer within 300ms")
	}
}
