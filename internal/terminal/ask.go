// Package terminal asks the user, and writes the lines of a log.
package terminal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/btrfs-backup/btrfs-backup/internal/progress"
)

// Ask asks a question on the terminal of this process, wherever its streams go. What is answered to a secret one is not shown. An
// end of the context ends the question and gives its cause; io.EOF says that the user gives no answer.
func Ask(ctx context.Context, question string, secret bool) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer tty.Close()
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return "", err
	}
	prompt(tty, question)
	answered := make(chan answer, 1)
	go func() { answered <- readAnswer(tty, secret) }()
	select {
	case a := <-answered:
		if errors.Is(a.err, io.EOF) {
			fmt.Fprintln(tty)
		}
		return a.text, a.err
	case <-ctx.Done():
		fmt.Fprintln(tty)
		return "", errors.Join(context.Cause(ctx), term.Restore(int(tty.Fd()), before))
	}
}

type answer struct {
	text string
	err  error
}

func readAnswer(tty *os.File, secret bool) answer {
	if !secret {
		text, err := bufio.NewReader(tty).ReadString('\n')
		return answer{strings.TrimSpace(text), err}
	}
	text, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return answer{string(text), err}
}

// prompt writes a question, which may be another machine's.
func prompt(tty io.Writer, question string) { fmt.Fprintf(progress.Printable(tty), "%s ", question) }
