package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

const (
	grace    = 10 * time.Second // from SIGTERM to SIGKILL
	maxLines = 20               // of what it said, in an error
	maxLine  = 500              // bytes of each
	maxError = 16 << 10         // bytes of a variable; the kernel allows 128 KiB
)

// A program is the before or after of a hook.
type program struct {
	note
	argv   []string
	when   string
	result result
}

// A result tells an after what it comes after.
type result struct {
	snapshot, status string
	ended            error
}

// A killedError tells that a program was ended, and may have had an effect.
type killedError struct{ error }

func (e killedError) Unwrap() error { return e.error }

// run runs the program to its end.
func (p program) run(ctx context.Context, log *slog.Logger) error {
	title := fmt.Sprintf("hook %s %s the %s", p.Hook, p.when, p.Phase)
	if p.Job != "" {
		title = "job " + p.Job + ": " + title
	}
	id, err := as(p.User)
	if err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	timeout := cmp.Or(p.Timeout, DefaultTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, hint.New(fmt.Errorf("it did not end within %s", timeout),
		"see why, or give it a longer timeout"))
	defer cancel()
	var said tail
	log.Info(title)
	process, err := transport.Local{Log: log, Level: slog.LevelInfo}.Start(ctx, transport.Command{
		Argv: p.argv, Name: "hook " + p.Hook, Env: append(p.env(), id.env...), Dir: "/", User: id.credential,
		Merged: true, Said: said.add, Grace: grace,
	})
	if errors.Is(err, os.ErrPermission) && id.credential != nil && os.Geteuid() != 0 {
		return hint.New(fmt.Errorf("%s: %w", title, err), "only root can run a hook as another user")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	return said.judge(title, p.when, process.Wait(), context.Cause(ctx))
}

// judge words how a program ended.
func (t tail) judge(title, when string, err, ended error) error {
	exit := new(transport.ExitError)
	isExit := errors.As(err, &exit)
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // what it left running in the background is its own affair
		return nil
	case isExit && exit.Status == statusSkip && when == "before":
		return &SkipError{Reason: title + t.text(": skips this job")}
	case isExit && exit.Killed():
		return killedError{fmt.Errorf("%s: %s", title, t.text(exit.State))}
	case isExit:
		return fmt.Errorf("%s: %s", title, t.text(exit.State))
	case ended != nil:
		return killedError{fmt.Errorf("%s: %w%s", title, ended, t.text(""))}
	}
	return fmt.Errorf("%s: %w", title, err)
}

// env gives the variables that tell a program what it is for.
func (p program) env() []string {
	text := ""
	if p.result.ended != nil {
		text = strings.ReplaceAll(p.result.ended.Error(), "\x00", "")
	}
	variables := []string{"LC_ALL=" + os.Getenv("LC_ALL")} // its messages are for people
	for _, v := range [][2]string{
		{"JOB", p.Job}, {"HOOK", p.Hook}, {"PHASE", string(p.Phase)}, {"SOURCE", p.Source}, {"DESTINATION", p.Destination},
		{"SNAPSHOT", p.result.snapshot}, {"STATUS", p.result.status}, {"ERROR", text[:min(maxError, len(text))]},
	} {
		variables = append(variables, "BTRFS_BACKUP_"+v[0]+"="+v[1])
	}
	return variables
}

// tail is the last lines that a program said.
type tail []string

func (t *tail) add(line string) {
	*t = append(*t, line[:min(maxLine, len(line))])
	if len(*t) > maxLines {
		*t = (*t)[1:]
	}
}

// text adds them to what is told.
func (t tail) text(start string) string {
	if len(t) == 0 {
		return start
	}
	return start + ": " + strings.Join(t, "; ")
}
