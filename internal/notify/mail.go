package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/mail"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/transport"

	gomail "github.com/wneessen/go-mail"
)

// sendmailProgram is where every mail server of Unix has a program that takes mails.
var sendmailProgram = "/usr/sbin/sendmail"

// message gives the mail, without addresses.
func message(n Notice) *gomail.Msg {
	m := gomail.NewMsg()
	m.Subject(n.Subject)
	m.SetDateWithValue(n.Time)
	m.SetUserAgent(userAgent)
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no holiday answers it
	m.SetBodyString(gomail.TypeTextPlain, shorten(n.Body, maxText))
	return m
}

// sendmail gives the mail to the mail server of this machine, which knows local users and its own address.
func (s Sender) sendmail(ctx context.Context, n Notice) error {
	m := message(n)
	argv := []string{sendmailProgram, "-i", "-t"}
	if from, err := mail.ParseAddress(s.MailFrom); err == nil {
		if err := m.From(s.MailFrom); err != nil {
			return err
		}
		argv = append(argv, "-f", from.Address)
	}
	to := make([]string, len(s.MailTo))
	for i, address := range s.MailTo {
		to[i] = address // a local user
		if parsed, err := mail.ParseAddress(address); err == nil {
			to[i] = parsed.String()
		}
	}
	m.SetGenHeader("To", strings.Join(to, ", "))
	var text strings.Builder
	if _, err := m.WriteTo(&text); err != nil {
		return err
	}
	err := s.run(ctx, transport.Command{Argv: argv, Input: strings.ReplaceAll(text.String(), "\r\n", "\n")})
	if errors.Is(err, fs.ErrNotExist) {
		return hint.New(err, "install a mail server such as postfix, or one that only passes mails on, such as msmtp-mta; or let smtp name one")
	}
	return err
}

// sendSMTP gives the mail to another mail server.
func (s Sender) sendSMTP(ctx context.Context, n Notice) error {
	server, err := parseServer(s.SMTP)
	if err != nil {
		return err
	}
	m := message(n)
	if err := errors.Join(m.From(s.from(server)), m.To(s.MailTo...)); err != nil {
		return err
	}
	password := ""
	if server.user != "" {
		if password, err = s.password(ctx); err != nil {
			return err
		}
	}
	err = deliver(ctx, server, password, m)
	if m.IsDelivered() { // what failed afterwards is the farewell
		return nil
	}
	return server.explain(err)
}

func deliver(ctx context.Context, server mailServer, password string, m *gomail.Msg) error {
	conn, err := server.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	options := []gomail.Option{
		gomail.WithTimeout(time.Hour), // the context ends before
		gomail.WithTLSPolicy(server.policy()), gomail.WithTLSConfig(server.tls()),
		gomail.WithDialContextFunc(func(context.Context, string, string) (net.Conn, error) { return conn, nil }),
	}
	if server.user != "" {
		options = append(options, gomail.WithUsername(server.user), gomail.WithPassword(password),
			gomail.WithOpportunisticSMTPAuth(mechanisms...))
	}
	client, err := gomail.NewClient(server.host, options...)
	if err != nil {
		return err
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return err
	}
	if err := client.SendWithSMTPClient(session, m); err != nil {
		return err
	}
	return client.CloseWithSMTPClient(session)
}

// from is the address of the sender.
func (s Settings) from(server mailServer) string {
	if s.MailFrom == "" {
		return server.user
	}
	return s.MailFrom
}

// mailServer is what smtps://USER@HOST:PORT and smtp://USER@HOST:PORT tell.
type mailServer struct {
	host, port, user string
	isTLS            bool // from the first byte on
}

const serverForm = "use smtps://USER@HOST, or smtp://USER@HOST for a server that begins without encryption; the password stands elsewhere"

// parseServer reads the address of a mail server. Its errors do not tell it, since a password may be in it.
func parseServer(address string) (mailServer, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "smtp" && u.Scheme != "smtps" || u.Hostname() == "" || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		return mailServer{}, hint.New(errors.New("is not the address of a mail server"), serverForm)
	}
	if _, given := u.User.Password(); given {
		return mailServer{}, hint.New(errors.New("holds a password"), "leave it out, and name a password-file or password-command")
	}
	m := mailServer{host: u.Hostname(), port: u.Port(), user: u.User.Username(), isTLS: u.Scheme == "smtps"}
	switch {
	case m.port != "":
	case m.isTLS:
		m.port = "465"
	case m.user != "":
		m.port = "587"
	default:
		m.port = "25"
	}
	return m, nil
}

// isHere tells whether nobody can listen on the way to the server.
func (m mailServer) isHere() bool { return m.host == "localhost" || net.ParseIP(m.host).IsLoopback() }

// tls gives what the server's certificate has to be: valid for its name, but on this machine, where servers have one of
// their own making.
func (m mailServer) tls() *tls.Config {
	return &tls.Config{ServerName: m.host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: m.isHere() && !m.isTLS}
}

func (m mailServer) policy() gomail.TLSPolicy {
	switch {
	case m.isTLS:
		return gomail.NoTLS // there is TLS already
	case m.user != "" && !m.isHere():
		return gomail.TLSMandatory
	default:
		return gomail.TLSOpportunistic
	}
}

// mechanisms are the ways to tell a password, the best one first. Some tell it as it is, to a server from which policy keeps
// listeners away.
var mechanisms = []gomail.SMTPAuthType{gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1,
	gomail.SMTPAuthPlainNoEnc, gomail.SMTPAuthLoginNoEnc, gomail.SMTPAuthCramMD5}

func (m mailServer) dial(ctx context.Context) (net.Conn, error) {
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(m.host, m.port))
	if err != nil {
		return nil, err
	}
	const maxAnswer = 1 << 20
	conn := limitedConn{plain, io.LimitReader(plain, maxAnswer)}
	if !m.isTLS {
		return conn, nil
	}
	encrypted := tls.Client(conn, m.tls())
	if err := encrypted.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, err
	}
	return encrypted, nil
}

// limitedConn ends when the server has told too much: an answer is kept in memory.
type limitedConn struct {
	net.Conn
	limited io.Reader
}

func (c limitedConn) Read(p []byte) (int, error) { return c.limited.Read(p) }

// explain makes what a server or the client says one short line.
func (m mailServer) explain(err error) error {
	if err == nil {
		return nil
	}
	text, _, _ := strings.Cut(err.Error(), ", affected message ID:")
	short := errors.New(shorten(progress.Line(text), 500))
	var answer *textproto.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &answer) && answer.Code == authFailed:
		return hint.New(short, "the user in smtp or the password is wrong for this server")
	case errors.As(err, &certificate):
		return hint.Newf(short, "the certificate of the server must be valid for %s; the authority that signed it belongs to /etc/ssl/certs", m.host)
	}
	return short
}

const authFailed = 535 // RFC 4954
