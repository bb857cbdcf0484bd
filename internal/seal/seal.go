// Package seal encrypts what leaves the machine, and signs what tells of it.
//
// Encryption is age (age-encryption.org/v1): a machine holds the public keys of recipients only, so whoever steals it cannot read what
// it stored. A signature is minisign's (jedisct1.github.io/minisign), by a key of the machine: it tells what this machine wrote from
// what somebody else put there, and lets nobody read anything.
package seal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"btrfs-backup/internal/hint"

	"filippo.io/age"
	"filippo.io/age/agessh"
)

// Recipients are the public keys for which everything is encrypted.
type Recipients struct {
	keys  []age.Recipient
	texts []string
}

// ParseRecipients reads public keys, one a line: those of age, and of SSH. Empty lines and those that begin with # do not count.
func ParseRecipients(r io.Reader) (Recipients, error) {
	var all Recipients
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		key, err := parseRecipient(text)
		if err != nil {
			return Recipients{}, hint.New(fmt.Errorf("line %d is no public key: %w", number, err),
				"a line is age1... or a public key of SSH; `btrfs-backup key new` makes two")
		}
		all.keys, all.texts = append(all.keys, key), append(all.texts, text)
	}
	return all, lines.Err()
}

func parseRecipient(text string) (age.Recipient, error) {
	switch {
	case strings.HasPrefix(text, "AGE-SECRET-KEY-"):
		return nil, errors.New("it is a secret key, which must not be here")
	case strings.HasPrefix(text, "age1pq1"):
		return age.ParseHybridRecipient(text)
	case strings.HasPrefix(text, "ssh-"):
		return agessh.ParseRecipient(text)
	}
	return age.ParseX25519Recipient(text)
}

// Texts gives the public keys as they were read.
func (r Recipients) Texts() []string { return r.texts }

// Encrypt encrypts what is written to it. Its Close ends the encrypted file, and leaves w open.
func (r Recipients) Encrypt(w io.Writer) (io.WriteCloser, error) { return age.Encrypt(w, r.keys...) }

// Identities are secret keys.
type Identities []age.Identity

// Decrypt decrypts a file that was encrypted for one of the identities.
func (i Identities) Decrypt(r io.Reader) (io.Reader, error) {
	if len(i) == 0 {
		return nil, ErrNoIdentity
	}
	plain, err := age.Decrypt(r, i...)
	if errors.As(err, new(*age.NoIdentityMatchError)) {
		return nil, ErrWrongIdentity
	}
	return plain, err
}

// ErrNoIdentity says that no secret key was given, ErrWrongIdentity that none of those given is one of the recipients'.
var (
	ErrNoIdentity    = errors.New("it is encrypted, and no secret key was given")
	ErrWrongIdentity = errors.New("it is encrypted for other keys than those given")
)
