package notify

import (
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// Check gives all that can be said against the settings. What may change from one day to the next, such as a program that is
// missing, is no reason to make no backup, and is told when a notice is sent.
func (s Settings) Check() hint.Complaints {
	var c hint.Complaints
	for _, name := range s.On {
		if !slices.Contains(events, Event(name)) {
			c.Add("on", "use failure, recovery, stale, success or start", "%q is unknown", name)
		}
	}
	s.checkMail(&c)
	s.checkPassword(&c)
	checkURL("webhook", s.Webhook, false, &c)
	checkURL("ntfy", s.Ntfy, true, &c)
	checkURL("healthchecks", s.Healthchecks, true, &c)
	checkArgv("command", s.Command, &c)
	isSet := len(s.On) > 0 || s.Must || s.MailFrom != "" || s.Sendmail || s.SMTP != ""
	if isSet && len(Sender{Settings: s}.targets()) == 0 {
		c.Add("", "give mail-to, webhook, ntfy, healthchecks, desktop or command", "[notify] says nobody who is to be told")
	}
	return c
}

// localUser is the name of a mailbox of this machine.
var localUser = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

func (s Settings) checkMail(c *hint.Complaints) {
	for _, to := range s.MailTo {
		_, err := mail.ParseAddress(to)
		switch {
		case err == nil:
		case !localUser.MatchString(to):
			c.Add("mail-to", "use the form NAME@HOST", "%q is no address", to)
		case s.SMTP != "":
			c.Add("mail-to", "add @ and its machine", "%q is known to this machine alone, and mails go to another one", to)
		}
	}
	if s.MailFrom != "" {
		if _, err := mail.ParseAddress(s.MailFrom); err != nil {
			c.Add("mail-from", "use the form NAME@HOST", "%q is no address", s.MailFrom)
		}
	}
	if s.Sendmail && s.SMTP != "" {
		c.Add("sendmail", "leave one of them out", "and smtp are two ways of one mail")
	}
	if s.SMTP == "" {
		return
	}
	server, err := parseServer(s.SMTP)
	if err != nil {
		c.Add("smtp", hint.Of(err), "%w", err)
	} else if _, err := mail.ParseAddress(s.from(server)); err != nil && s.MailFrom == "" {
		c.Add("mail-from", "give the address that the mail server expects", "is missing, and the user in smtp is no address")
	}
}

func (s Settings) checkPassword(c *hint.Complaints) {
	isFile, isCommand := s.PasswordFile != "", len(s.PasswordCommand) > 0
	server, err := parseServer(s.SMTP)
	switch {
	case s.SMTP == "" && (isFile || isCommand):
		c.Add("smtp", serverForm, "is missing: the password is for nobody")
	case err == nil && server.user == "" && (isFile || isCommand):
		c.Add("smtp", "use the form smtps://USER@HOST", "names no user: the password is for nobody")
	case err == nil && server.user != "" && !isFile && !isCommand:
		c.Add("smtp", "name the file that holds it by password-file, or a program that tells it by password-command", "names a user, but the password is missing")
	}
	if isFile && isCommand {
		c.Add("password-command", "leave one of them out", "and password-file are two ways to one password")
	}
	checkArgv("password-command", s.PasswordCommand, c)
	if !isFile || isCredential(s.PasswordFile) {
		return
	}
	if !filepath.IsAbs(s.PasswordFile) {
		c.Add("password-file", "begin it with /, or give the name of a systemd credential", "%s depends on the directory of the run", s.PasswordFile)
		return
	}
	info, err := os.Stat(s.PasswordFile)
	if err != nil {
		return
	}
	if owner := int(info.Sys().(*syscall.Stat_t).Uid); info.Mode().Perm()&0o077 != 0 || owner != 0 && owner != os.Geteuid() {
		c.Add("password-file", "chown root FILE; chmod 600 FILE", "%s can be read by others", s.PasswordFile)
	}
}

// isCredential tells whether a password file is the name of a systemd credential.
func isCredential(file string) bool { return !strings.Contains(file, "/") }

// checkURL complains of an address, which it does not show: it may be all that keeps strangers out.
func checkURL(setting, address string, needsPath bool, c *hint.Complaints) {
	if address == "" {
		return
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		c.Add(setting, "use an address that begins with https:// or http://", "is no address of a web server")
	case needsPath && strings.Trim(u.Path, "/") == "":
		c.Add(setting, "copy the whole address, with what follows the machine", "names the machine %s alone", u.Host)
	}
}

func checkArgv(setting string, argv []string, c *hint.Complaints) {
	if len(argv) > 0 && argv[0] == "" {
		c.Add(setting, `write it as ["PROGRAM", "ARGUMENT", ...]`, "names no program")
	}
}
