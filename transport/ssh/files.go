package ssh

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kevinburke/ssh_config"
)

// keywords are those of ssh_config(5) that are looked at.
var keywords = []string{
	"AddressFamily", "BindAddress", "CertificateFile", "Ciphers", "ConnectTimeout", "GlobalKnownHostsFile",
	"GSSAPIAuthentication", "HashKnownHosts", "HostKeyAlgorithms", "HostKeyAlias", "HostName", "IdentitiesOnly",
	"IdentityAgent", "IdentityFile", "KbdInteractiveAuthentication", "KexAlgorithms", "KnownHostsCommand", "MACs",
	"PasswordAuthentication", "PKCS11Provider", "Port", "ProxyCommand", "ProxyJump", "PubkeyAuthentication",
	"RevokedHostKeys", "ServerAliveCountMax", "ServerAliveInterval", "StrictHostKeyChecking", "User", "UserKnownHostsFile",
}

// readFiles reads the settings for a machine from ssh's files without ssh. A file that cannot be understood is left out.
func (m *Machine) readFiles(t Target, options []string) (settings, error) {
	values := settings{}
	for _, o := range options {
		key, value, ok := strings.Cut(o, "=")
		if !ok {
			key, value, ok = strings.Cut(strings.TrimSpace(o), " ")
		}
		if !ok {
			return nil, fmt.Errorf("ssh option %q is not KEY=VALUE", o)
		}
		key = strings.ToLower(strings.TrimSpace(key))
		values[key] = append(values[key], unquote(value))
	}
	files := []string{filepath.Join(homeDir(), ".ssh/config"), "/etc/ssh/ssh_config"}
	if m.options.ConfigFile != "" {
		files = []string{m.options.ConfigFile}
	}
	for _, file := range files {
		if err := values.addFile(file, t.Host); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.log.Warn(fmt.Sprintf("%s is left out, because ssh is not installed and it cannot be understood: %v", file, err))
		}
	}
	if name := values.get("hostname"); name != "" {
		values["hostname"] = []string{strings.NewReplacer("%%", "%", "%h", t.Host).Replace(name)}
	}
	return values, nil
}

// addFile adds what a file sets for host to what was set before.
func (s settings) addFile(file, host string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	config, err := ssh_config.Decode(f)
	if err != nil {
		return err
	}
	for _, key := range keywords {
		found, err := config.GetAll(host, key)
		if err != nil {
			return err
		}
		for _, value := range found {
			key := strings.ToLower(key)
			s[key] = append(s[key], unquote(value))
		}
	}
	return nil
}

func unquote(value string) string {
	value = strings.TrimSpace(value)
	if len(value) >= 2 && value[0] == '"' && strings.IndexByte(value[1:], '"') == len(value)-2 {
		return value[1 : len(value)-1]
	}
	return value
}
