package notify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

func TestWrongSettingsAreComplainedAbout(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	check(t, os.WriteFile(open, nil, 0o600))
	check(t, os.Chmod(open, 0o640))
	to := []string{"me@example.org"}
	for _, test := range []struct {
		name string
		Settings
		want []string
	}{
		{"nothing", Settings{}, nil},
		{"mail by sendmail", Settings{MailTo: []string{"root", "A B <a@example.org>"}}, nil},
		{"all targets", Settings{On: []string{"failure", "recovery", "stale", "success", "start"}, MailTo: to, Sendmail: true, Webhook: "http://h",
			Ntfy: "https://h/topic", Healthchecks: "https://h/uuid", Desktop: true, Command: []string{"true"}, Must: true}, nil},
		{"SMTP", Settings{MailTo: to, SMTP: "smtps://me@example.org@mail:1465/", PasswordFile: "credential"}, nil},
		{"no target", Settings{Must: true}, []string{"[notify] says nobody"}},
		{"a sender alone", Settings{MailFrom: "a@b"}, []string{"[notify] says nobody"}},
		{"events", Settings{On: []string{"failure", "fail", ""}, Desktop: true}, []string{`--on "fail" is unknown`, `--on "" is unknown`}},
		{"addresses", Settings{MailTo: []string{"-oQ/tmp", "a b", "a@b\nc@d"}, MailFrom: "me"},
			[]string{`--mail-to "-oQ/tmp"`, `--mail-to "a b"`, `--mail-to "a@b\nc@d"`, `--mail-from "me"`}},
		{"two ways of mail", Settings{MailTo: to, MailFrom: "a@b", Sendmail: true, SMTP: "smtp://mail"}, []string{"--sendmail and smtp"}},
		{"a local user elsewhere", Settings{MailTo: []string{"root"}, MailFrom: "a@b", SMTP: "smtp://mail"}, []string{`--mail-to "root" is known to this machine alone`}},
		{"no sender", Settings{MailTo: to, SMTP: "smtp://mail"}, []string{"--mail-from is missing"}},
		{"a server", Settings{MailTo: to, SMTP: "https://" + secret + "@mail"}, []string{"--smtp is not the address"}},
		{"a port", Settings{MailTo: to, SMTP: "smtp://me:" + secret + "/x@mail"}, []string{"--smtp is not the address"}},
		{"a query", Settings{MailTo: to, SMTP: "smtp://mail?" + secret}, []string{"--smtp is not the address"}},
		{"no host", Settings{MailTo: to, SMTP: "smtp://me@"}, []string{"--smtp is not the address"}},
		{"a password in the file", Settings{MailTo: to, SMTP: "smtp://me:" + secret + "@mail"}, []string{"--smtp holds a password"}},
		{"no password", Settings{MailTo: to, MailFrom: "a@b", SMTP: "smtp://me@mail"}, []string{"--smtp names a user, but the password is missing"}},
		{"no user", Settings{MailTo: to, MailFrom: "a@b", SMTP: "smtp://mail", PasswordFile: "x"}, []string{"--smtp names no user"}},
		{"no server", Settings{MailTo: to, PasswordFile: "x"}, []string{"--smtp is missing"}},
		{"two passwords", Settings{MailTo: to, SMTP: "smtp://a@b@mail", PasswordFile: "x", PasswordCommand: []string{"x"}}, []string{"--password-command and password-file"}},
		{"a relative file", Settings{MailTo: to, SMTP: "smtp://a@b@mail", PasswordFile: "x/y"}, []string{"--password-file x/y depends"}},
		{"an open file", Settings{MailTo: to, SMTP: "smtp://a@b@mail", PasswordFile: open}, []string{"--password-file " + open + " can be read by others"}},
		{"a file that is missing today", Settings{MailTo: to, SMTP: "smtp://a@b@mail", PasswordFile: filepath.Join(dir, "x")}, nil},
		{"addresses of the web", Settings{Webhook: secret, Ntfy: "ftp://h/" + secret, Healthchecks: "https:///" + secret},
			[]string{"--webhook is no address", "--ntfy is no address", "--healthchecks is no address"}},
		{"machines alone", Settings{Ntfy: "https://ntfy.sh/", Healthchecks: "https://hc-ping.com"},
			[]string{"--ntfy names the machine ntfy.sh alone", "--healthchecks names the machine hc-ping.com alone"}},
		{"an unreadable address", Settings{Webhook: "http://[" + secret}, []string{"--webhook is no address"}},
		{"programs", Settings{Command: []string{""}, MailTo: to, SMTP: "smtp://a@b@mail", PasswordCommand: []string{"", "x"}}, []string{"--password-command names no program", "--command names no program"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.Check()
			if len(got) != len(test.want) {
				t.Fatalf("complaints: %q", got)
			}
			for i, c := range got {
				if !strings.HasPrefix(c.Error(), test.want[i]) || hint.Of(c) == "" || strings.Contains(c.Error()+hint.Of(c), secret) {
					t.Errorf("complaint %q, hint %q, want %q", c, hint.Of(c), test.want[i])
				}
			}
		})
	}
}

func TestTheUsualPortsAreAsked(t *testing.T) {
	for address, want := range map[string]string{"smtps://me@mail": "465", "smtp://me@mail": "587", "smtp://mail": "25", "smtp://me@mail:26": "26", "smtps://[::1]:1": "1"} {
		if server, err := parseServer(address); err != nil || server.port != want {
			t.Errorf("%s: %+v, %v", address, server, err)
		}
	}
}
