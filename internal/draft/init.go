package draft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// At tells where a configuration is written, and where it is looked for.
type At struct{ File, Default, System string }

// Init asks a user, and writes a configuration where there is none, which is then checked. It gives what to do next, for people.
func (d Dialog) Init(ctx context.Context, at At, check func(file string) error) (next string, err error) {
	if _, err := os.Lstat(at.File); err == nil {
		return "", hint.Newf(fmt.Errorf("%s exists", at.File), "edit it, or write another one: btrfs-backup config init -o FILE")
	}
	found, err := Look()
	if err != nil {
		return "", err
	}
	choice, err := d.Choose(ctx, found)
	if errors.Is(err, io.EOF) {
		return "", errors.New("a question was not answered: nothing was written")
	}
	if err != nil {
		return "", err
	}
	if os.Geteuid() == 0 {
		choice.Log = "/var/log/btrfs-backup"
	}
	if err := os.MkdirAll(filepath.Dir(at.File), 0o755); err != nil {
		return "", err
	}
	if err := Write(at.File, choice.Text()); err != nil {
		return "", err
	}
	if err := check(at.File); err != nil {
		return "", err
	}
	given, user := "", ""
	if at.File != at.Default {
		given = " --config " + at.File
	} else if at.File != at.System {
		user = " --user"
	}
	return fmt.Sprintf("wrote %s\nsee what it would do:  btrfs-backup run --dry-run%s\nhave it done:          btrfs-backup install%s%s\n", at.File, given, user, given), nil
}
