package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/btrfs-backup/btrfs-backup/transport"
)

// runtimeDirs holds a directory for each user who is logged in.
var runtimeDirs = "/run/user"

// sendDesktop shows the subject to everybody who is logged in at a desktop. The report is not for everybody.
func (s Sender) sendDesktop(ctx context.Context, n Notice) error {
	users, err := usersHere()
	if err != nil {
		return err
	}
	errs := make([]error, len(users))
	var showing sync.WaitGroup
	for i, u := range users {
		showing.Go(func() { errs[i] = s.show(ctx, u, n) })
	}
	showing.Wait()
	nobody := true
	for i, err := range errs {
		switch {
		case errors.Is(err, errNobody):
			errs[i] = nil
		case err != nil:
			errs[i], nobody = fmt.Errorf("of user %d: %w", users[i].uid, err), false
		default:
			nobody = false
		}
	}
	if nobody {
		return errNobody
	}
	return errors.Join(errs...)
}

// desktopUser is a user who is logged in.
type desktopUser struct {
	uid, gid uint32
	bus      string
}

// usersHere finds the users who are logged in; for anybody but root, this user alone. The system's own users have
// sessions too, such as the one of the screen where people log in.
func usersHere() (users []desktopUser, err error) {
	entries, err := os.ReadDir(runtimeDirs)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // the user has left
		}
		const firstOfPeople = 1000
		owner := info.Sys().(*syscall.Stat_t)
		isSystem := owner.Uid != 0 && owner.Uid < firstOfPeople
		if !isSystem && (os.Geteuid() == 0 || os.Geteuid() == int(owner.Uid)) {
			users = append(users, desktopUser{owner.Uid, owner.Gid, filepath.Join(runtimeDirs, e.Name(), "bus")})
		}
	}
	return users, err
}

// show asks the desktop of a user to show the notice. A bus admits its user alone, who may have put anything in its place: what
// talks to it is a program that runs as this user, and knows nothing of ours.
func (s Sender) show(ctx context.Context, u desktopUser, n Notice) error {
	const low, normal, critical = "0", "1", "2"
	urgency := normal
	switch {
	case n.Event.isBad():
		urgency = critical // it stays until somebody has seen it
	case n.Event == Start:
		urgency = low
	}
	c := transport.Command{Name: "busctl", Argv: []string{"busctl", "--address=unix:path=" + u.bus, "--quiet", "call",
		"org.freedesktop.Notifications", "/org/freedesktop/Notifications", "org.freedesktop.Notifications", "Notify",
		"--", "susssasa{sv}i", "btrfs-backup", "0", "", n.Subject, "btrfs-backup status tells more", "0",
		"1", "urgency", "y", urgency, "-1"}}
	if int(u.uid) != os.Geteuid() {
		c.User = &syscall.Credential{Uid: u.uid, Gid: u.gid}
	}
	err := s.run(ctx, c)
	var exit *transport.ExitError
	if errors.As(err, &exit) && slices.ContainsFunc(absences, func(text string) bool { return strings.Contains(exit.Stderr, text) }) {
		return errNobody
	}
	return err
}

// absences are what busctl says where there is no bus, one that ended, or one without a desktop.
var absences = []string{"No such file or directory", "Connection refused", "not provided by any .service files", "not activatable"}
