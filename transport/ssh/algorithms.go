package ssh

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// algorithms are what the built-in client offers, the fastest first. AES-GCM leads whatever the order of the configuration:
// where the processor has AES it is twice as fast as ChaCha20, which OpenSSH prefers.
func (c *configuration) algorithms() ssh.Algorithms {
	all := ssh.SupportedAlgorithms()
	ciphers := append([]string{ssh.CipherAES128GCM, ssh.CipherAES256GCM}, all.Ciphers...)
	return ssh.Algorithms{
		Ciphers:      permitted(unique(ciphers), c.settings.get("ciphers")),
		KeyExchanges: permitted(all.KeyExchanges, c.settings.get("kexalgorithms")),
		MACs:         permitted(all.MACs, c.settings.get("macs")),
		HostKeys:     permitted(all.HostKeys, c.settings.get("hostkeyalgorithms")),
	}
}

func unique(names []string) []string {
	var u []string
	for _, n := range names {
		if !slices.Contains(u, n) {
			u = append(u, n)
		}
	}
	return u
}

// permitted gives those names that a list of ssh_config(5) permits. With "+" or "^" it only adds or sorts, with "-" it
// removes.
func permitted(names []string, list string) []string {
	if list == "" || list[0] == '+' || list[0] == '^' {
		return names
	}
	rest, without := strings.CutPrefix(list, "-")
	patterns := strings.Split(rest, ",")
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		listed := slices.ContainsFunc(patterns, func(pattern string) bool {
			ok, _ := path.Match(pattern, name) // a bad pattern matches nothing
			return ok
		})
		return listed == without
	})
}

// beyondBuiltIn tells what of the configuration the built-in client lacks, or "".
//
// GSSAPIAuthentication is not among it: distributions switch it on for everybody. It is tried with the ssh program after the
// server refused everything else and offers it. The same holds for keys of a kind that only ssh can use.
func (c *configuration) beyondBuiltIn() string {
	for _, key := range []string{"ProxyCommand", "PKCS11Provider", "KnownHostsCommand"} {
		if c.settings.get(strings.ToLower(key)) != "" {
			return fmt.Sprintf("%s is set for %s", key, c.target)
		}
	}
	a := c.algorithms()
	for _, kind := range []struct {
		keyword string
		names   []string
	}{{"Ciphers", a.Ciphers}, {"KexAlgorithms", a.KeyExchanges}, {"MACs", a.MACs}, {"HostKeyAlgorithms", a.HostKeys}} {
		if len(kind.names) == 0 {
			return fmt.Sprintf("%s for %s permits none that the built-in client has", kind.keyword, c.target)
		}
	}
	if _, err := c.revokedKeys(); err != nil {
		return fmt.Sprintf("RevokedHostKeys for %s: %v", c.target, err)
	}
	if _, err := c.hostKeys(); err != nil {
		return fmt.Sprintf("the known host keys for %s: %v", c.target, err)
	}
	return ""
}
