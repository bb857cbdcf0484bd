package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"golang.org/x/sys/unix"
)

// runCommand runs the user's command with the report on its standard input.
func (s Sender) runCommand(ctx context.Context, n Notice) error {
	return s.run(ctx, transport.Command{
		Argv: s.Command,
		Name: filepath.Base(s.Command[0]), // an argument may be a secret
		Env: []string{
			"BTRFS_BACKUP_EVENT=" + string(n.Event),
			"BTRFS_BACKUP_HOST=" + n.Host,
			"BTRFS_BACKUP_JOBS=" + progress.Line(strings.Join(n.Jobs, " ")),
			"BTRFS_BACKUP_SUBJECT=" + n.Subject,
		},
		Input: shorten(n.Body, maxText),
	})
}

// run runs a program, which need not read its input.
func (s Sender) run(ctx context.Context, c transport.Command) error {
	err := s.local().Run(ctx, c)
	if errors.Is(err, exec.ErrWaitDelay) { // what it left running in the background is its own affair
		return nil
	}
	return err
}

const maxPassword = 4 << 10

// password gives what the user of the mail server is known by.
func (s Sender) password(ctx context.Context) (string, error) {
	from, read := "password-file", s.readPassword
	if len(s.PasswordCommand) > 0 {
		from, read = "password-command", s.askPassword
	}
	text, err := read(ctx)
	if err == nil && len(text) > maxPassword {
		err = hint.New(fmt.Errorf("more than %d bytes", maxPassword), "its first line is the password, and little may follow")
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", from, err)
	}
	line, _, _ := strings.Cut(text, "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", hint.New(errors.New(from+": the first line is empty"), "the first line is the password")
	}
	return line, nil
}

func (s Sender) readPassword(context.Context) (string, error) {
	path := s.PasswordFile
	if isCredential(path) {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", hint.Newf(fmt.Errorf("systemd gave no credential %s", path),
				"LoadCredential=%s:/PATH in the unit gives it; a path in place of the name is read without systemd", path)
		}
		path = filepath.Join(dir, path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe without a writer is empty
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	return string(text), err
}

func (s Sender) askPassword(ctx context.Context) (string, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	p, err := s.local().Start(ctx, transport.Command{Argv: s.PasswordCommand, Name: filepath.Base(s.PasswordCommand[0]), Stdout: w})
	w.Close()
	if err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { r.Close() })() // a grandchild may hold the other end
	text, readErr := io.ReadAll(io.LimitReader(r, maxPassword+1))
	if len(text) > maxPassword {
		p.Kill() // it waits for its output to be read
		_ = p.Wait()
		return string(text), nil
	}
	return string(text), cmp.Or(p.Wait(), readErr)
}
