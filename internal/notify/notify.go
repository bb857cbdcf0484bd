// Package notify tells people and other programs how a run went: by mail, over HTTP, on the desktop, or by a command.
//
// The targets are told side by side, each for 10 seconds at most; one that cannot be told stops no other. What is sent is limited
// in size and holds no control characters, whatever is in the names of jobs and in errors. Messages name no secret: of a URL
// they show the host alone. The same failure is told once a day.
package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/lock"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// An Event is what a notice is about.
type Event string

const (
	Start    Event = "start"
	Success  Event = "success"
	Recovery Event = "recovery" // a success after a failure
	Failure  Event = "failure"
	Stale    Event = "stale" // the newest backup is older than it may be
)

var (
	events        = []Event{Start, Success, Recovery, Failure, Stale}
	defaultEvents = []Event{Failure, Recovery, Stale}
)

// isBad tells whether somebody has to do something.
func (e Event) isBad() bool { return e == Failure || e == Stale }

// Settings tell who is told what. No target: nobody is told anything.
type Settings struct {
	On []string `toml:"on"` // events; none: failure, recovery, stale

	MailTo          []string `toml:"mail-to"`
	MailFrom        string   `toml:"mail-from"`
	Sendmail        bool     `toml:"sendmail"` // also where there is no SMTP
	SMTP            string   `toml:"smtp"`
	PasswordFile    string   `toml:"password-file"` // a path, or the name of a systemd credential
	PasswordCommand []string `toml:"password-command"`

	Webhook      string   `toml:"webhook"`
	Ntfy         string   `toml:"ntfy"`
	Healthchecks string   `toml:"healthchecks"`
	Desktop      bool     `toml:"desktop"`
	Command      []string `toml:"command"`

	Must bool `toml:"must"` // a notice that cannot be sent is a failure of the run
}

// A Notice is what is to be told.
type Notice struct {
	Event   Event
	Host    string
	Subject string // such as "backup home: failed"
	Body    string // the report for people
	Report  any    // the report for programs, as JSON; may be nil
	Jobs    []string
	// Failures tell why jobs failed, by their names. A failure is the same as another one if the reasons differ in numbers alone.
	Failures map[string]string
	Status   int // the exit status of the run
	Time     time.Time
}

// A Sender sends notices.
type Sender struct {
	Settings
	State lock.State // what was told
	Log   *slog.Logger

	patience time.Duration // for each target; 0: 10 s
}

// target is somebody to be told.
type target struct {
	kind, name string // name stands in errors
	always     bool   // about every event, also again
	send       func(context.Context, Notice) error
}

// errNobody tells that there was nobody to be told.
var errNobody = errors.New("nobody is there")

// Send tells all targets that are to be told. The error has a line for each of them that was not, with its name.
func (s Sender) Send(ctx context.Context, n Notice) error {
	n = n.clean()
	record, recordErr := s.State.Notices()
	if recordErr != nil {
		s.State = lock.State{} // rather tell it again
	}
	targets := s.targets()
	errs := make([]error, len(targets))
	var sending sync.WaitGroup
	for i, t := range targets {
		sending.Go(func() { errs[i] = s.tell(ctx, t, n, record[t.kind]) })
	}
	sending.Wait()
	return errors.Join(append(errs, recordErr)...)
}

func (s Sender) targets() (all []target) {
	add := func(given bool, t target) {
		if given {
			all = append(all, t)
		}
	}
	viaSMTP := s.SMTP != ""
	to := "mail to " + strings.Join(s.MailTo, ", ")
	add(len(s.MailTo) > 0 && viaSMTP, target{kind: "mail", name: to + " by " + withoutSecrets(s.SMTP), send: s.sendSMTP})
	add(len(s.MailTo) > 0 && !viaSMTP, target{kind: "mail", name: to, send: s.sendmail})
	add(s.Webhook != "", target{kind: "webhook", name: "webhook " + withoutSecrets(s.Webhook), send: s.sendWebhook})
	add(s.Ntfy != "", target{kind: "ntfy", name: "ntfy " + withoutSecrets(s.Ntfy), send: s.sendNtfy})
	add(s.Healthchecks != "", target{kind: "healthchecks", name: "healthchecks " + withoutSecrets(s.Healthchecks),
		always: true, send: s.ping})
	add(s.Desktop, target{kind: "desktop", name: "desktop", send: s.sendDesktop})
	add(len(s.Command) > 0, target{kind: "command", name: "command", send: s.runCommand})
	return all
}

// tell tells a target unless it needs not be told, and puts on record whether it was.
func (s Sender) tell(ctx context.Context, t target, n Notice, record []string) (err error) {
	isTold := t.always || s.wants(n.Event) && n.isNews(record)
	if isTold {
		err = s.sendInTime(ctx, t, n)
		isTold = err == nil
	}
	if err != nil && !errors.Is(err, errNobody) {
		err = fmt.Errorf("%s: %w", t.name, err)
	} else {
		err = nil
	}
	if t.always || slices.Equal(n.record(record, isTold), record) {
		return err
	}
	return errors.Join(err, s.State.ChangeNotices(ctx, t.kind, func(before []string) []string { return n.record(before, isTold) }))
}

func (s Sender) wants(e Event) bool {
	on := defaultEvents
	if len(s.On) > 0 {
		on = nil
		for _, name := range s.On {
			on = append(on, Event(name))
		}
	}
	return slices.Contains(on, e) || e == Recovery && slices.Contains(on, Success)
}

func (s Sender) sendInTime(ctx context.Context, t target, n Notice) error {
	patience := cmp.Or(s.patience, 10*time.Second)
	inTime, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %v", patience))
	defer cancel()
	err := t.send(inTime, n)
	if cause := context.Cause(inTime); err != nil && cause != nil {
		return cause // in place of what came of it
	}
	return err
}

// clean makes the texts of a notice harmless, and lets the subject name the host.
func (n Notice) clean() Notice {
	n.Host = progress.Line(n.Host)
	n.Subject = shorten(progress.Line("["+n.Host+"] "+n.Subject), 200)
	n.Body = printable(n.Body)
	return n
}

func (s Sender) local() transport.Local { return transport.Local{Log: s.Log, Level: slog.LevelDebug} }
