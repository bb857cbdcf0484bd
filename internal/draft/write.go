package draft

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// Write writes a file that others cannot read, since it may name commands.
func Write(name, text string) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return hint.New(fmt.Errorf("%s is there already, and not overwritten", name), "name another file, or move that one away")
	} else if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
