package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

const (
	maxAnswers   = 3 // that a user may get wrong
	agentTimeout = 10 * time.Second
)

// secrets are the user's answers that were right, so that a further connection does not ask again.
type secrets struct {
	mu      sync.Mutex
	answers map[string]string // by question
}

func (s *secrets) get(question string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, ok := s.answers[question]
	return answer, ok
}

func (s *secrets) set(question, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers == nil {
		s.answers = map[string]string{}
	}
	s.answers[question] = answer
}

func (s *secrets) forget(question string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.answers, question)
}

type asker func(ctx context.Context, question string, secret bool) (string, error)

// A login is one attempt to log in. It collects what to log in with, and notes what it had not to try.
type login struct {
	ctx     context.Context
	config  *configuration
	secrets *secrets
	ask     asker // nil: nobody to ask
	agent   io.Closer

	tried    []string // keys for the error
	locked   []string // key files whose passphrase nobody was there to tell
	foreign  []string // key files of a kind that only ssh can use
	trouble  []error
	accepted []string // methods that the server offered
	password string   // the question for it, once answered
}

// methods are the ways to log in, in OpenSSH's order.
func (l *login) methods() []ssh.AuthMethod {
	var methods []ssh.AuthMethod
	s := l.config.settings
	if s.is("pubkeyauthentication", true) {
		methods = append(methods, ssh.PublicKeysCallback(l.signers))
	}
	if l.ask == nil {
		return methods
	}
	if s.is("kbdinteractiveauthentication", true) {
		methods = append(methods, ssh.RetryableAuthMethod(ssh.KeyboardInteractive(l.answer), maxAnswers))
	}
	if s.is("passwordauthentication", true) {
		methods = append(methods, ssh.RetryableAuthMethod(ssh.PasswordCallback(l.askPassword), maxAnswers))
	}
	return methods
}

func (l *login) close() {
	if l.agent != nil {
		_ = l.agent.Close() // only read from
	}
}

func (l *login) answer(name, instruction string, questions []string, echos []bool) ([]string, error) {
	answers := make([]string, len(questions))
	for i, q := range questions {
		text := strings.TrimSpace(strings.Join([]string{name, instruction}, "\n"))
		if i == 0 && text != "" {
			q = text + "\n" + q
		}
		q = fmt.Sprintf("(%s@%s) %s", l.config.user, l.config.target.Host, q)
		var err error
		if answers[i], err = l.ask(l.ctx, q, !echos[i]); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// askPassword gives the password that was right before, unless the server just refused it.
func (l *login) askPassword() (string, error) {
	question := fmt.Sprintf("%s@%s's password: ", l.config.user, l.config.target.Host)
	if answer, ok := l.secrets.get(question); ok && l.password == "" {
		l.password = question
		return answer, nil
	}
	l.password = question
	answer, err := l.ask(l.ctx, question, true)
	if err == nil {
		l.secrets.set(question, answer)
	}
	return answer, err
}

// failed forgets a password that was not right.
func (l *login) failed() {
	if l.password != "" {
		l.secrets.forget(l.password)
	}
}

// A candidate is a key to offer.
type candidate struct {
	ssh.Signer
	from string // a file, or the agent
}

// signers gives the keys to offer: those of the agent that are configured, its others, then key files; each one's
// certificates before it.
func (l *login) signers() ([]ssh.Signer, error) {
	files := l.keyFiles()
	fromAgent := l.agentKeys()
	configured := func(c candidate) bool {
		return slices.ContainsFunc(files, func(f keyFile) bool { return f.public != nil && sameKey(f.public, c.PublicKey()) })
	}
	var first, rest []candidate
	for _, c := range fromAgent {
		if configured(c) {
			first = append(first, c)
		} else if !l.config.settings.is("identitiesonly", false) {
			rest = append(rest, c)
		}
	}
	all := append(first, rest...)
	held := func(key ssh.PublicKey) bool {
		return key != nil && slices.ContainsFunc(all, func(c candidate) bool { return sameKey(key, c.PublicKey()) })
	}
	for _, f := range files {
		switch {
		case held(f.public):
		case f.signer != nil:
			all = append(all, candidate{f.signer, f.name})
		case f.locked:
			l.locked = append(l.locked, f.name)
		case f.foreign:
			l.foreign = append(l.foreign, f.name)
		}
	}
	var signers []ssh.Signer
	seen := map[string]bool{}
	for _, c := range l.withCertificates(all) {
		if blob := string(c.PublicKey().Marshal()); !seen[blob] {
			seen[blob] = true
			signers = append(signers, c.Signer)
			l.tried = append(l.tried, fmt.Sprintf("%s (%s)", fingerprint(c.PublicKey()), c.from))
		}
	}
	return signers, nil
}

// sameKey tells whether a key, or the one that it certifies, is the same as the other's.
func sameKey(a, b ssh.PublicKey) bool { return bytes.Equal(bare(a).Marshal(), bare(b).Marshal()) }

func bare(key ssh.PublicKey) ssh.PublicKey {
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key
	}
	return key
}

// withCertificates puts before each key the certificates for it that stand in files.
func (l *login) withCertificates(keys []candidate) []candidate {
	var certs []*ssh.Certificate
	var names []string
	files := slices.Clone(l.config.certificateFiles)
	for _, f := range l.config.identityFiles {
		files = append(files, f+"-cert.pub")
	}
	for _, f := range files {
		if cert, ok := readPublic(f).(*ssh.Certificate); ok {
			certs, names = append(certs, cert), append(names, f)
		}
	}
	var all []candidate
	for _, key := range keys {
		for i, cert := range certs {
			if !bytes.Equal(cert.Key.Marshal(), key.PublicKey().Marshal()) {
				continue
			}
			if signer, err := ssh.NewCertSigner(cert, key.Signer); err == nil {
				all = append(all, candidate{signer, names[i]})
			}
		}
		all = append(all, key)
	}
	return all
}

// agentKeys gives the keys of the user's agent.
func (l *login) agentKeys() []candidate {
	socket := l.config.agentSocket()
	if socket == "" {
		return nil
	}
	conn, err := net.DialTimeout("unix", socket, agentTimeout)
	if err != nil {
		l.trouble = append(l.trouble, fmt.Errorf("asking the agent: %w", err))
		return nil
	}
	l.agent = conn
	_ = conn.SetDeadline(time.Now().Add(agentTimeout)) // of a connected socket: cannot fail
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		l.trouble = append(l.trouble, fmt.Errorf("asking the agent at %s: %w", socket, err))
		return nil
	}
	_ = conn.SetDeadline(time.Time{}) // it may ask the user; the time for the login bounds that
	keys := make([]candidate, len(signers))
	for i, s := range signers {
		keys[i] = candidate{s, "agent"}
	}
	return keys
}

// agentSocket is where the agent listens, "" if there is none.
func (c *configuration) agentSocket() string {
	value, set := c.settings["identityagent"]
	if !set || strings.EqualFold(value[0], "SSH_AUTH_SOCK") {
		return os.Getenv("SSH_AUTH_SOCK")
	}
	if strings.EqualFold(value[0], "none") {
		return ""
	}
	if name, ok := strings.CutPrefix(value[0], "$"); ok {
		return os.Getenv(strings.Trim(name, "{}"))
	}
	return c.expand(value[0])
}

// refused makes the error of a login that the server did not accept.
func (l *login) refused(cause error) error {
	e := &failure{text: fmt.Sprintf("logging in as %s at %s: permission denied", l.config.user, l.config.target)}
	switch {
	case strings.Contains(cause.Error(), "Too many authentication failures"):
		e.text += fmt.Sprintf(": too many keys were offered: %s", strings.Join(l.tried, ", "))
		e.hint = "name the right one with IdentityFile, and set IdentitiesOnly=yes"
		return e
	case len(l.tried) == 0:
		e.text += ": there is no key to offer"
	default:
		e.text += ": none of these keys is accepted: " + strings.Join(l.tried, ", ")
	}
	if err := errors.Join(l.trouble...); err != nil {
		e.text += "; " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	switch {
	case len(l.locked) > 0:
		e.hint = strings.Join(l.locked, ", ") + " needs a passphrase, which nobody is here to type: load it with ssh-add"
	default:
		e.hint = "add a public key to ~/.ssh/authorized_keys over there, as with " + l.config.target.byHand("ssh-copy-id")
	}
	if len(l.accepted) > 0 && !slices.Contains(l.accepted, "publickey") {
		e.hint = "its sshd takes no keys but: " + strings.Join(l.accepted, ", ")
	}
	return e
}
