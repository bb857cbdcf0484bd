package ssh

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
)

// A keyFile is what is known of an identity file. One that does not exist has neither half.
type keyFile struct {
	name    string
	public  ssh.PublicKey // nil: not known
	signer  ssh.Signer    // nil: it cannot sign
	locked  bool          // by a passphrase, and nobody can be asked
	foreign bool          // of a kind that only ssh can use
}

// keyFiles reads the identity files.
func (l *login) keyFiles() []keyFile {
	var keys []keyFile
	for _, name := range l.config.identityFiles {
		keys = append(keys, l.readKeyFile(name))
	}
	return keys
}

func (l *login) readKeyFile(name string) keyFile {
	k := keyFile{name: name, public: readPublic(name + ".pub")}
	pem, err := os.ReadFile(name)
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			l.trouble = append(l.trouble, err)
		}
		return k
	}
	if public := readPublic(name); public != nil { // the agent has the other half
		k.public = public
		return k
	}
	var locked *ssh.PassphraseMissingError
	switch k.signer, err = ssh.ParsePrivateKey(pem); {
	case err == nil:
		k.public = k.signer.PublicKey()
	case errors.As(err, &locked):
		k.signer = nil
		if locked.PublicKey != nil {
			k.public = locked.PublicKey
		}
		if l.ask == nil {
			k.locked = true
			break
		}
		k.signer = l.unlockLater(name, pem, &k)
	default:
		k.signer, k.foreign = nil, true
	}
	return k
}

// unlockLater gives a signer that asks for the passphrase when the server accepts the key. Old formats without a file with
// the public half are unlocked at once.
func (l *login) unlockLater(name string, pem []byte, k *keyFile) ssh.Signer {
	unlock := sync.OnceValues(func() (ssh.Signer, error) { return l.unlock(name, pem) })
	if k.public != nil {
		return &lockedSigner{bare(k.public), unlock}
	}
	signer, err := unlock()
	if err != nil {
		l.trouble = append(l.trouble, err)
		return nil
	}
	k.public = signer.PublicKey()
	return signer
}

func (l *login) unlock(name string, pem []byte) (ssh.Signer, error) {
	question := fmt.Sprintf("Passphrase of the key %s: ", name)
	if answer, ok := l.secrets.get(question); ok {
		if signer, err := ssh.ParsePrivateKeyWithPassphrase(pem, []byte(answer)); err == nil {
			return signer, nil
		}
	}
	for range maxAnswers {
		answer, err := l.ask(l.ctx, question, true)
		if err != nil {
			return nil, err
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(pem, []byte(answer))
		if err == nil {
			l.secrets.set(question, answer)
			return signer, nil
		}
		if !errors.Is(err, x509.IncorrectPasswordError) {
			return nil, fmt.Errorf("unlocking %s: %w", name, err)
		}
	}
	err := fmt.Errorf("%s: that is not its passphrase", name)
	l.trouble = append(l.trouble, err)
	return nil, err
}

// A lockedSigner asks for a passphrase when it is to sign.
type lockedSigner struct {
	public ssh.PublicKey
	unlock func() (ssh.Signer, error)
}

func (s *lockedSigner) PublicKey() ssh.PublicKey { return s.public }

func (s *lockedSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, s.public.Type())
}

func (s *lockedSigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	signer, err := s.unlock()
	if err != nil {
		return nil, err
	}
	if any, ok := signer.(ssh.AlgorithmSigner); ok {
		return any.SignWithAlgorithm(rand, data, algorithm)
	}
	return signer.Sign(rand, data)
}

// readPublic reads a public key or certificate, nil if there is none.
func readPublic(name string) ssh.PublicKey {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil
	}
	return key
}
