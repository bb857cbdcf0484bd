package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

const canaryTitle = "# This was encrypted for these recipients."

// Canary gives a small file that is encrypted for the recipients: whoever can read it can read what is encrypted for them.
func Canary(r Recipients) ([]byte, error) {
	var content bytes.Buffer
	fmt.Fprintf(&content, "%s\n\n", canaryTitle)
	for _, one := range r {
		fmt.Fprintf(&content, "# %s\n%s\n", one.Name, one.Text)
	}
	return r.Seal(content.Bytes())
}

// TestCanary reads a canary with secret keys, and tells which of its recipients they are.
func TestCanary(content []byte, ids Identities) (Recipients, error) {
	r, err := ids.Decrypt(bytes.NewReader(content))
	if errors.Is(err, ErrNoIdentity) || errors.Is(err, ErrWrongIdentity) {
		return nil, err
	}
	var plain []byte
	if err == nil {
		plain, err = io.ReadAll(r)
	}
	if err != nil {
		return nil, hint.New(fmt.Errorf("what is stored to try keys with is damaged: %w", err), "try the key on a backup")
	}
	all, err := ParseRecipients(bytes.NewReader(plain))
	if err != nil || !strings.HasPrefix(string(plain), canaryTitle) {
		return nil, hint.New(errors.New("what is stored to try keys with tells of no recipients"), "try the key on a backup")
	}
	matching := all.Matching(ids)
	for i := range matching {
		matching[i].Line = 0 // of no file
	}
	return matching, nil
}
