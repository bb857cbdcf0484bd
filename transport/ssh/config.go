package ssh

import (
	"cmp"
	"context"
	"crypto/sha1"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/transport"
)

const (
	defaultConnectTimeout = 20 * time.Second
	defaultAliveInterval  = 15 * time.Second
	defaultAliveCount     = 3
	maxHops               = 10 // more are a loop
)

// A configuration is what the user configured for one machine, resolved.
type configuration struct {
	settings settings
	target   Target // as typed
	hostName string
	user     string
	port     int
	jump     *configuration // the machine by way of which this one is reached; nil: directly

	network        string // "tcp", "tcp4", "tcp6"
	connectTimeout time.Duration
	aliveInterval  time.Duration
	aliveCount     int

	identityFiles    []string
	certificateFiles []string
	knownHosts       []string // the user's files first
	userKnownHosts   string   // the file that new keys are added to

	// program is run in place of the built-in client, because of why. "": none.
	program, why string
}

// settings are the values of each keyword, in lower case. Of most keywords the first counts.
type settings map[string][]string

func (s settings) get(key string) string {
	if len(s[key]) == 0 || strings.EqualFold(s[key][0], "none") {
		return ""
	}
	return s[key][0]
}

// is tells whether a switch that ssh has on or off by default is on.
func (s settings) is(key string, byDefault bool) bool {
	switch strings.ToLower(s.get(key)) {
	case "yes", "true":
		return true
	case "no", "false":
		return false
	default:
		return byDefault
	}
}

// seconds gives the value of a time of whole seconds or in ssh's format ("1m30s"), 0 if there is none.
func (s settings) seconds(key string) time.Duration {
	text := strings.ToLower(s.get(key))
	if n, err := strconv.Atoi(text); err == nil {
		return time.Duration(n) * time.Second
	}
	d, _ := time.ParseDuration(text) // days and weeks are as good as the default here
	return d
}

// resolve looks up the configuration, once.
func (m *Machine) resolve(ctx context.Context) (*configuration, error) {
	select {
	case m.resolving <- struct{}{}:
		defer func() { <-m.resolving }()
	case <-ctx.Done():
		return nil, fmt.Errorf("connecting to %s: %w", m, context.Cause(ctx))
	}
	m.mu.Lock()
	config := m.config
	m.mu.Unlock()
	if config != nil {
		return config, nil
	}
	if m.options.Program != "" {
		config = &configuration{target: m.target, program: m.options.Program, why: "as configured"}
	} else {
		var err error
		if config, err = m.resolveHops(ctx, m.target, m.options.Options, 0); err != nil {
			return nil, err
		}
		m.chooseProgram(config)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.config = config
	return config, nil
}

// chooseProgram decides for the user's ssh where the built-in client lacks what the way to the machine needs.
func (m *Machine) chooseProgram(config *configuration) {
	for hop := config; hop != nil; hop = hop.jump {
		if why := hop.beyondBuiltIn(); why != "" {
			config.program, config.why = "ssh", why
			m.log.Info(fmt.Sprintf("%s: running the ssh program: %s", m, why))
			return
		}
	}
}

// resolveHops resolves the configuration of a machine and of those on the way to it. As with OpenSSH, the options of the
// command line are for the machine itself; its jump hosts have the configuration files.
func (m *Machine) resolveHops(ctx context.Context, t Target, options []string, depth int) (*configuration, error) {
	if depth > maxHops {
		return nil, fmt.Errorf("connecting to %s: ProxyJump leads by more than %d machines", m, maxHops)
	}
	values, err := m.lookUp(ctx, t, options)
	if err != nil {
		return nil, err
	}
	config, err := newConfiguration(t, values)
	if err != nil {
		return nil, err
	}
	hops, err := config.jumps()
	if err != nil {
		return nil, err
	}
	return config, m.resolveJump(ctx, config, hops, depth)
}

// resolveJump resolves the last of the hops as the one before config. The first of them may have jump hosts of its own.
func (m *Machine) resolveJump(ctx context.Context, config *configuration, hops []Target, depth int) (err error) {
	if len(hops) == 0 {
		return nil
	}
	last := len(hops) - 1
	var options []string
	if last > 0 {
		options = []string{"ProxyJump=none"} // the list tells its way
	}
	if config.jump, err = m.resolveHops(ctx, hops[last], options, depth+1); err != nil {
		return err
	}
	return m.resolveJump(ctx, config.jump, hops[:last], depth+1)
}

// lookUp gives the settings for a machine: as ssh resolves them, or where it is not installed, as they stand in its files.
func (m *Machine) lookUp(ctx context.Context, t Target, options []string) (settings, error) {
	if _, err := exec.LookPath("ssh"); err != nil {
		return m.readFiles(t, options)
	}
	argv := append([]string{"ssh", "-G"}, m.arguments(t, options)...)
	ctx, cancel := context.WithTimeout(ctx, defaultConnectTimeout) // Match exec runs programs
	defer cancel()
	out, err := m.local.Output(ctx, append(argv, "--", t.Host)...)
	if err != nil {
		return nil, &failure{text: "looking up the ssh configuration of " + t.String(), cause: err,
			hint: "see what " + transport.Quote(append(argv, "--", t.Host)...) + " tells"}
	}
	values := settings{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		values[key] = append(values[key], value)
	}
	return values, nil
}

// arguments are those of an ssh program but for the machine's name. What is typed with that comes first: the first value counts.
func (m *Machine) arguments(t Target, options []string) []string {
	var argv []string
	if t.Port != 0 {
		argv = append(argv, "-p", strconv.Itoa(t.Port))
	}
	if t.User != "" {
		argv = append(argv, "-l", t.User)
	}
	for _, o := range options {
		argv = append(argv, "-o", o)
	}
	if m.options.ConfigFile != "" {
		argv = append(argv, "-F", m.options.ConfigFile)
	}
	return argv
}

func newConfiguration(t Target, values settings) (*configuration, error) {
	c := &configuration{settings: values, target: t, network: "tcp",
		hostName:       cmp.Or(values.get("hostname"), t.Host),
		user:           cmp.Or(t.User, values.get("user"), localUser()),
		port:           t.Port,
		connectTimeout: cmp.Or(values.seconds("connecttimeout"), defaultConnectTimeout),
		aliveInterval:  cmp.Or(values.seconds("serveraliveinterval"), defaultAliveInterval),
		aliveCount:     defaultAliveCount,
	}
	if c.port == 0 {
		port := cmp.Or(values.get("port"), "22")
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("connecting to %s: port %q is not one", t, port)
		}
		c.port = int(n)
	}
	if n, err := strconv.Atoi(values.get("serveralivecountmax")); err == nil && n > 0 {
		c.aliveCount = n
	}
	switch values.get("addressfamily") {
	case "inet":
		c.network = "tcp4"
	case "inet6":
		c.network = "tcp6"
	}
	c.identityFiles = c.files("identityfile", defaultIdentityFiles)
	c.certificateFiles = c.files("certificatefile", nil)
	user := c.lists("userknownhostsfile", []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"})
	if len(user) > 0 {
		c.userKnownHosts = user[0]
	}
	c.knownHosts = append(user, c.lists("globalknownhostsfile",
		[]string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"})...)
	return c, nil
}

// defaultIdentityFiles are those of ssh_config(5), the strongest kind first.
var defaultIdentityFiles = []string{"~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa",
	"~/.ssh/id_ed25519_sk", "~/.ssh/id_ecdsa_sk"}

// files gives the values of a keyword that may be set several times to one file each.
func (c *configuration) files(key string, byDefault []string) []string {
	values := c.settings[key]
	if len(values) == 0 {
		values = byDefault
	}
	return c.expandAll(values)
}

// lists gives the value of a keyword that is a list of files.
func (c *configuration) lists(key string, byDefault []string) []string {
	if len(c.settings[key]) == 0 {
		return c.expandAll(byDefault)
	}
	return c.expandAll(fileNames(c.settings[key][0]))
}

var quoted = regexp.MustCompile(`"[^"]*"|[^ "]+`)

// fileNames splits a list. `ssh -G` tells names without their quotes: what does not begin as a name does goes on with the one
// before, and so does what is there as one file.
func fileNames(list string) []string {
	var names []string
	if strings.Contains(list, `"`) {
		for _, word := range quoted.FindAllString(list, -1) {
			names = append(names, strings.Trim(word, `"`))
		}
		return names
	}
	for _, word := range strings.Split(list, " ") {
		if last := len(names) - 1; last >= 0 {
			_, err := os.Stat(names[last] + " " + word)
			if err == nil || word == "" || !strings.Contains("/~%$", word[:1]) {
				names[last] += " " + word
				continue
			}
		}
		names = append(names, word)
	}
	return names
}

func (c *configuration) expandAll(files []string) []string {
	var expanded []string
	for _, f := range files {
		if !strings.EqualFold(f, "none") {
			expanded = append(expanded, c.expand(f))
		}
	}
	return slices.Compact(expanded)
}

// variables are what ssh_config(5) replaces in a file name, all in one pass.
var variables = regexp.MustCompile(`%.|\$\{[^}]*\}`)

// expand expands "~", "~USER", and the tokens and environment variables of ssh_config(5) in a file name.
func (c *configuration) expand(file string) string {
	name, rest, _ := strings.Cut(file, "/")
	if u, err := user.Lookup(strings.TrimPrefix(name, "~")); err == nil && strings.HasPrefix(name, "~") {
		file = u.HomeDir + "/" + rest
	} else if name == "~" {
		file = homeDir() + "/" + rest
	}
	tokens := c.tokens()
	return variables.ReplaceAllStringFunc(file, func(v string) string {
		if name, ok := strings.CutPrefix(v, "${"); ok {
			return cmp.Or(os.Getenv(strings.TrimSuffix(name, "}")), v)
		}
		if value, ok := tokens[v]; ok {
			return value
		}
		return v
	})
}

// tokens are those of ssh_config(5), as OpenSSH's DEFAULT_CLIENT_PERCENT_EXPAND_ARGS.
func (c *configuration) tokens() map[string]string {
	jump, port := "", strconv.Itoa(c.port)
	if hops, err := c.jumps(); err == nil && len(hops) > 0 {
		jump = hops[len(hops)-1].Host
	}
	here, _ := os.Hostname() // "" is as good
	short, _, _ := strings.Cut(here, ".")
	return map[string]string{"%%": "%", "%C": fmt.Sprintf("%x", sha1.Sum([]byte(here+c.hostName+port+c.user+jump))), "%d": homeDir(),
		"%h": c.hostName, "%i": strconv.Itoa(os.Getuid()), "%j": jump, "%k": cmp.Or(c.settings.get("hostkeyalias"), c.target.Host),
		"%L": short, "%l": here, "%n": c.target.Host, "%p": port, "%r": c.user, "%u": localUser()}
}

// homeDir is the home directory that ssh takes: of the user database, whatever HOME is.
func homeDir() string {
	if u, err := user.Current(); err == nil {
		return u.HomeDir
	}
	return "/"
}

func localUser() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// jumps gives the machines that ProxyJump names.
func (c *configuration) jumps() ([]Target, error) {
	value := c.settings.get("proxyjump")
	if value == "" {
		return nil, nil
	}
	var hops []Target
	for hop := range strings.SplitSeq(value, ",") {
		t, err := parseJump(strings.TrimSpace(hop))
		if err != nil {
			return nil, fmt.Errorf("connecting to %s: ProxyJump %q: %w", c.target, value, err)
		}
		if t.Host == c.target.Host && (t.Port == 0 || t.Port == c.port) {
			return nil, nil // "Host *" with a ProxyJump includes the jump host
		}
		hops = append(hops, t)
	}
	return hops, nil
}

// parseJump parses [user@]host[:port] or ssh://[user@]host[:port].
func parseJump(text string) (Target, error) {
	text, uri := strings.CutPrefix(text, "ssh://")
	if uri {
		text = strings.TrimSuffix(text, "/")
	}
	var t Target
	if at := strings.LastIndex(text, "@"); at >= 0 {
		t.User, text = text[:at], text[at+1:]
	}
	t.Host = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if host, port, err := net.SplitHostPort(text); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return t, fmt.Errorf("port %q is not one", port)
		}
		t.Host, t.Port = host, int(n)
	}
	if t.Host == "" || strings.HasPrefix(t.Host, "-") {
		return t, fmt.Errorf("host name %q is not one", t.Host)
	}
	return t, nil
}
