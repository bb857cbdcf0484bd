package terminal

import (
	"errors"
	"fmt"
	"os"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

// What xterm and its likes do with a screen beside the one that scrolls: XTerm Control Sequences, DECSET 1049.
const (
	openScreen  = "\x1b[?1049h\x1b[H\x1b[2J"
	closeScreen = "\x1b[?1049l"
)

// Show shows a text on the terminal of this process, wherever its streams go, until it is hidden. Terminals that can keep nothing of
// it then.
func Show(text string) (hide func() error, err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	_, err = tty.WriteString(openScreen)
	if err == nil {
		_, err = fmt.Fprint(progress.Printable(tty), text)
	}
	hide = func() error {
		_, err := tty.WriteString(closeScreen)
		return errors.Join(err, tty.Close())
	}
	if err != nil {
		return nil, errors.Join(err, hide())
	}
	return hide, nil
}
