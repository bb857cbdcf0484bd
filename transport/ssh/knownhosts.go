package ssh

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/transport"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys reads the known_hosts files that exist.
func (c *configuration) hostKeys() (*knownhosts.HostKeyDB, error) {
	var files []string
	for _, f := range c.knownHosts {
		if _, err := os.Stat(f); err == nil {
			files = append(files, f)
		}
	}
	return knownhosts.NewDB(files...)
}

// knownAs is the address that the machine has in known_hosts files. An alias stands there without a port.
func (c *configuration) knownAs() string {
	if alias := c.settings.get("hostkeyalias"); alias != "" {
		return net.JoinHostPort(strings.ToLower(alias), "22")
	}
	return net.JoinHostPort(strings.ToLower(c.hostName), strconv.Itoa(c.port))
}

// revokedKeys reads the file of revoked keys, which holds a public key in each line. Its other format is beyond this client.
func (c *configuration) revokedKeys() ([]ssh.PublicKey, error) {
	file := c.settings.get("revokedhostkeys")
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.expand(file))
	if err != nil {
		return nil, err
	}
	var keys []ssh.PublicKey
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey(line)
		if err != nil {
			return nil, fmt.Errorf("%s is not a list of public keys: %w", c.expand(file), err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// hostKeyAlgorithms puts those of the known keys first, so that a server with several keys shows one that can be compared, and
// else the kinds in OpenSSH's order. Certificates are asked for only where an authority is known; else a server would show one
// that says nothing.
func (c *configuration) hostKeyAlgorithms(db *knownhosts.HostKeyDB) []string {
	kinds := []string{"ed25519", "ecdsa", "rsa"}
	known := db.HostKeyAlgorithms(c.knownAs())
	rank := func(a string) int {
		kind := slices.IndexFunc(kinds, func(k string) bool { return strings.Contains(a, k) })
		if !slices.Contains(known, a) {
			kind += len(kinds)
		}
		return kind
	}
	can := slices.DeleteFunc(c.algorithms().HostKeys, func(a string) bool {
		return strings.Contains(a, "-cert-") && !slices.Contains(known, a)
	})
	slices.SortStableFunc(can, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return can
}

// A hostKeyCheck decides on the key that a server shows.
type hostKeyCheck struct {
	config *configuration
	db     *knownhosts.HostKeyDB
	ask    func(ctx context.Context, question string, secret bool) (string, error) // nil: nobody
}

func (h *hostKeyCheck) check(ctx context.Context, remote net.Addr, key ssh.PublicKey) error {
	address := h.config.knownAs()
	if err := h.notRevoked(key); err != nil {
		return err
	}
	err := h.db.HostKeyCallback()(address, remote, key)
	var revoked *xknownhosts.RevokedError
	var differs *xknownhosts.KeyError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &revoked):
		return h.refuse(key, fmt.Sprintf("is revoked in %s:%d", revoked.Revoked.Filename, revoked.Revoked.Line),
			"somebody else may have that key; ask who runs the machine for a new one")
	case !errors.As(err, &differs):
		return h.refuse(key, "is not accepted: "+err.Error(), "")
	}
	if known := h.plain(differs.Want); len(known) > 0 {
		return h.changed(key, known)
	}
	return h.unknown(ctx, key)
}

func (h *hostKeyCheck) notRevoked(key ssh.PublicKey) error {
	revoked, err := h.config.revokedKeys()
	if err != nil {
		return h.refuse(key, "cannot be checked: "+err.Error(), "")
	}
	cert, _ := key.(*ssh.Certificate)
	for _, r := range revoked {
		blob := r.Marshal()
		if bytes.Equal(blob, key.Marshal()) ||
			cert != nil && (bytes.Equal(blob, cert.Key.Marshal()) || bytes.Equal(blob, cert.SignatureKey.Marshal())) {
			return h.refuse(key, "is revoked in "+h.config.settings.get("revokedhostkeys"),
				"ask who runs the machine for a new one")
		}
	}
	return nil
}

// plain leaves out the keys of authorities, which say nothing about a key without a certificate.
func (h *hostKeyCheck) plain(known []xknownhosts.KnownKey) []xknownhosts.KnownKey {
	all := h.db.HostKeys(h.config.knownAs())
	return slices.DeleteFunc(slices.Clone(known), func(k xknownhosts.KnownKey) bool {
		return slices.ContainsFunc(all, func(a knownhosts.PublicKey) bool {
			return a.Cert && bytes.Equal(a.Marshal(), k.Key.Marshal())
		})
	})
}

func (h *hostKeyCheck) changed(key ssh.PublicKey, known []xknownhosts.KnownKey) error {
	slices.SortStableFunc(known, func(a, b xknownhosts.KnownKey) int { // the one that key is to replace first
		return cmp.Compare(b2i(b.Key.Type() == key.Type()), b2i(a.Key.Type() == key.Type()))
	})
	want := known[0]
	remove := transport.Quote("ssh-keygen", "-f", want.Filename, "-R", knownhosts.Normalize(h.config.knownAs()))
	return h.refuse(key, fmt.Sprintf("is not the known one, %s (%s:%d)", fingerprint(want.Key), want.Filename, want.Line),
		"somebody may be in between. If the machine got a new key, remove the old one: "+remove)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// unknown decides on a key of a machine of which none is known, as StrictHostKeyChecking tells.
func (h *hostKeyCheck) unknown(ctx context.Context, key ssh.PublicKey) error {
	strict := strings.ToLower(h.config.settings.get("stricthostkeychecking"))
	switch {
	case strict == "accept-new" || strict == "no" || strict == "off" || strict == "false":
		return h.add(key)
	case h.ask == nil || strict == "yes" || strict == "true":
		return h.refuse(key, "is not known", fmt.Sprintf(
			"compare its fingerprint with the machine's, and run %s once by hand (or %s)",
			h.config.target.byHand("ssh"), h.scan()))
	}
	answer, err := h.ask(ctx, fmt.Sprintf("The host key of %s is not known: %s. Is it the machine's? (yes/no) ",
		h.config.target, fingerprint(key)), false)
	if err != nil {
		return h.refuse(key, "is not known: "+err.Error(), "")
	}
	if strings.ToLower(strings.TrimSpace(answer)) != "yes" {
		return h.refuse(key, "is not known, and was not accepted", "")
	}
	return h.add(key)
}

func (h *hostKeyCheck) scan() string {
	return transport.Quote("ssh-keyscan", "-p", strconv.Itoa(h.config.port), h.config.hostName) + " >> " + transport.Quote(h.config.userKnownHosts)
}

// add adds the key to the user's known_hosts file.
func (h *hostKeyCheck) add(key ssh.PublicKey) error {
	file := h.config.userKnownHosts
	if file == "" {
		return nil // configured to be remembered nowhere
	}
	address := h.config.knownAs()
	line := knownhosts.Line([]string{address}, key)
	if h.config.settings.is("hashknownhosts", false) {
		_, rest, _ := strings.Cut(line, " ")
		line = xknownhosts.HashHostname(knownhosts.Normalize(address)) + " " + rest
	}
	if err := appendLine(file, line); err != nil {
		return fmt.Errorf("adding the host key of %s: %w", h.config.target, err)
	}
	return nil
}

// appendLine appends a line to a file that only its owner may write, and makes it when needed.
func appendLine(file, line string) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, end-1); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	_, err = f.WriteString(line + "\n")
	return err
}

func (h *hostKeyCheck) refuse(key ssh.PublicKey, why, hint string) error {
	return &failure{text: fmt.Sprintf("the host key %s of %s %s", fingerprint(key), h.config.target, why), hint: hint}
}

// fingerprint names a key: "ED25519 SHA256:...".
func fingerprint(key ssh.PublicKey) string {
	return strings.TrimPrefix(key.Type(), "ssh-") + " " + ssh.FingerprintSHA256(key)
}
