package notify

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// elsewhere is an address of this machine that does not look like one.
const elsewhere = "0.0.0.0"

var trusted, foreign tls.Certificate // of elsewhere, by an authority that is trusted and by one that is not

// trust makes the certificates.
func trust(dir string) (err error) {
	var authority []byte
	if trusted, authority, err = newCertificate(); err != nil {
		return err
	}
	if foreign, _, err = newCertificate(); err != nil {
		return err
	}
	file := filepath.Join(dir, "authorities.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority}), 0o600); err != nil {
		return err
	}
	return os.Setenv("SSL_CERT_FILE", file)
}

func newCertificate() (c tls.Certificate, authority []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.ParseIP(elsewhere)}}
	authority, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{authority}, PrivateKey: key}, authority, err
}

// mailServerRig is a mail server.
type mailServerRig struct {
	port        string
	certificate *tls.Certificate // nil: no TLS
	isTLS       bool             // from the first byte on
	auth        string           // mechanisms
	password    string
	refuse      map[string]string // answers by command
	mu          sync.Mutex
	mails       []receivedMail
	tried       []string // what came after AUTH
}

type receivedMail struct {
	encrypted  bool
	user, from string
	to         []string
	text       string
}

func (r *mailServerRig) start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", elsewhere+":0")
	check(t, err)
	_, r.port, err = net.SplitHostPort(l.Addr().String())
	check(t, err)
	var serving sync.WaitGroup
	t.Cleanup(func() { l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { r.serve(conn) })
		}
	})
}

func (r *mailServerRig) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	var m receivedMail
	encrypt := func() {
		conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*r.certificate}})
		m.encrypted = true
	}
	if r.isTLS {
		encrypt()
	}
	lines := bufio.NewReader(conn)
	answer := func(text string) { fmt.Fprintf(conn, "%s\r\n", text) }
	answer("220 test")
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		verb, rest, _ := strings.Cut(line, " ")
		if text := r.refuse[verb]; text != "" {
			answer(text)
			continue
		}
		switch verb {
		case "EHLO":
			extensions := []string{"test"}
			if r.certificate != nil && !m.encrypted {
				extensions = append(extensions, "STARTTLS")
			}
			if r.auth != "" {
				extensions = append(extensions, "AUTH "+r.auth)
			}
			for i, e := range extensions {
				answer("250" + map[bool]string{true: " ", false: "-"}[i == len(extensions)-1] + e)
			}
		case "STARTTLS":
			answer("220 go on")
			encrypt()
			lines = bufio.NewReader(conn)
		case "AUTH":
			said, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			r.mu.Lock()
			r.tried = append(r.tried, string(said))
			r.mu.Unlock()
			if parts := strings.Split(string(said), "\x00"); len(parts) == 3 && parts[2] == r.password {
				m.user = parts[1]
				answer("235 welcome")
			} else {
				answer("535 5.7.8 bad\x1b credentials")
			}
		case "MAIL":
			m.from = rest
			answer("250 ok")
		case "RCPT":
			m.to = append(m.to, rest)
			answer("250 ok")
		case "DATA":
			answer("354 go on")
			var text strings.Builder
			for {
				line, err := lines.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			m.text = text.String()
			r.mu.Lock()
			r.mails = append(r.mails, m)
			r.mu.Unlock()
			answer("250 taken")
		case "QUIT":
			answer("221 bye")
			return
		default:
			answer("250 ok")
		}
	}
}

func (r *mailServerRig) one(t testing.TB) receivedMail {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mails) != 1 {
		t.Fatalf("%d mails came: %+v", len(r.mails), r.mails)
	}
	return r.mails[0]
}

func parseMail(t testing.TB, text string) (m *mail.Message, subject, body string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	check(t, err)
	subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	check(t, err)
	content, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	check(t, err)
	return m, subject, strings.ReplaceAll(string(content), "\r\n", "\n")
}

func bySMTP(address string) Settings {
	return Settings{MailTo: []string{"Jörg <joerg@example.org>", "root@example.org"}, MailFrom: "Backup <backup@example.org>", SMTP: address}
}

func withPassword(t testing.TB, s Settings, password string) Settings {
	s.PasswordFile = filepath.Join(t.TempDir(), "password")
	check(t, os.WriteFile(s.PasswordFile, []byte(password+"\n"), 0o600))
	return s
}

func TestAMailHoldsTheReport(t *testing.T) {
	var r mailServerRig
	r.start(t)
	n := failure()
	n.Subject, n.Body = "backup höme: failed", ".a dot\n"+strings.Repeat("ä", 500)+"\n.\nthe end\n"
	send(t, newSender(t, bySMTP("smtp://localhost:"+r.port)), n)
	got := r.one(t)
	m, subject, body := parseMail(t, got.text)
	if subject != "[laptop] backup höme: failed" || body != n.Body {
		t.Errorf("subject %q, body %q", subject, body)
	}
	date, err := m.Header.Date()
	if err != nil || !date.Equal(n.Time) || m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("Message-Id") == "" {
		t.Errorf("header: %v, %v", m.Header, err)
	}
	if to, err := m.Header.AddressList("To"); err != nil || len(to) != 2 || to[0].Name != "Jörg" || m.Header.Get("From") != `"Backup" <backup@example.org>` {
		t.Errorf("header: %v, %v", m.Header, err)
	}
	if !strings.HasPrefix(got.from, "FROM:<backup@example.org>") || !slices.Equal(got.to, []string{"TO:<joerg@example.org>", "TO:<root@example.org>"}) || got.encrypted {
		t.Errorf("envelope: %+v", got)
	}
	if media, p, err := mime.ParseMediaType(m.Header.Get("Content-Type")); err != nil || media != "text/plain" || !strings.EqualFold(p["charset"], "utf-8") {
		t.Errorf("%s %v, %v", media, p, err)
	}
}

func TestNothingInANoticeBecomesAHeader(t *testing.T) {
	var r mailServerRig
	r.start(t)
	n := failure()
	n.Host, n.Subject = "laptop\r\nBcc: a@example.org", "backup a\nCc: b@example.org\r\n\r\nbody \xff: failed"
	n.Body = "error: \r\n.\r\nMAIL FROM:<x>\xff\n"
	send(t, newSender(t, bySMTP("smtp://localhost:"+r.port)), n)
	m, subject, body := parseMail(t, r.one(t).text)
	if m.Header.Get("Bcc")+m.Header.Get("Cc") != "" || !strings.Contains(subject, `Cc: b@example.org`) || !strings.Contains(subject, `\xff`) || strings.ContainsAny(subject, "\r\n") {
		t.Errorf("header: %v", m.Header)
	}
	if body != "error: \n.\nMAIL FROM:<x>\\xff\n" {
		t.Errorf("body: %q", body)
	}
}

func TestAMailIsSmall(t *testing.T) {
	var r mailServerRig
	r.start(t)
	n := failure()
	n.Body = strings.Repeat("a line of a report\n", 1<<20)
	send(t, newSender(t, bySMTP("smtp://localhost:"+r.port)), n)
	if _, _, body := parseMail(t, r.one(t).text); len(body) > maxText || len(body) < maxText-100 {
		t.Errorf("%d bytes", len(body))
	}
}

func TestAMailIsEncryptedWhereTheServerCan(t *testing.T) {
	for _, test := range []struct {
		name, address string
		*mailServerRig
	}{
		{"TLS", "smtps://" + elsewhere, &mailServerRig{certificate: &trusted, isTLS: true}},
		{"STARTTLS", "smtp://" + elsewhere, &mailServerRig{certificate: &trusted}},
		{"a certificate of its own on this machine", "smtp://localhost", &mailServerRig{certificate: &foreign}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := test.mailServerRig
			r.start(t)
			send(t, newSender(t, bySMTP(test.address+":"+r.port)), failure())
			if !r.one(t).encrypted {
				t.Error("it could be read on the way")
			}
		})
	}
}

func TestACertificateThatIsNotTrustedIsRefused(t *testing.T) {
	for _, test := range []struct{ scheme, host string }{{"smtp", elsewhere}, {"smtps", elsewhere}, {"smtps", "localhost"}} {
		r := mailServerRig{certificate: &foreign, isTLS: test.scheme == "smtps", auth: "PLAIN", password: secret}
		r.start(t)
		s := newSender(t, withPassword(t, bySMTP(test.scheme+"://me@"+test.host+":"+r.port), secret))
		err := s.Send(t.Context(), failure())
		wantError(t, err, "mail to Jörg <joerg@example.org>, root@example.org by "+test.scheme+"://"+test.host+":"+r.port+": ", "certificate")
		if hint.Of(err) == "" || len(r.mails)+len(r.tried) > 0 {
			t.Errorf("hint: %q, mails: %v, passwords: %q", hint.Of(err), r.mails, r.tried)
		}
	}
}

func TestThePasswordLogsIn(t *testing.T) {
	for _, test := range []struct {
		address string
		*mailServerRig
	}{
		{"smtps://me@" + elsewhere, &mailServerRig{certificate: &trusted, isTLS: true}},
		{"smtp://me@" + elsewhere, &mailServerRig{certificate: &trusted}},
		{"smtp://me@localhost", &mailServerRig{}},
		{"smtp://me@127.0.0.2", &mailServerRig{}},
	} {
		r := test.mailServerRig
		r.auth, r.password = "PLAIN LOGIN", secret
		r.start(t)
		send(t, newSender(t, withPassword(t, bySMTP(test.address+":"+r.port), secret)), failure())
		if got := r.one(t).user; got != "me" {
			t.Errorf("%s: by %q", test.address, got)
		}
	}
}

func TestThePasswordIsNotToldWithoutEncryption(t *testing.T) {
	r := mailServerRig{auth: "PLAIN LOGIN", password: secret}
	r.start(t)
	s := newSender(t, withPassword(t, bySMTP("smtp://me@"+elsewhere+":"+r.port), secret))
	wantError(t, s.Send(t.Context(), failure()), "STARTTLS")
	if len(r.mails)+len(r.tried) > 0 {
		t.Errorf("mails: %v, passwords: %q", r.mails, r.tried)
	}
}

func TestTheUserIsTheSenderIfNoOtherIsGiven(t *testing.T) {
	r := mailServerRig{auth: "PLAIN", password: secret}
	r.start(t)
	s := withPassword(t, bySMTP("smtp://me%40example.org@localhost:"+r.port), secret)
	s.MailFrom = ""
	send(t, newSender(t, s), failure())
	if got := r.one(t); !strings.HasPrefix(got.from, "FROM:<me@example.org>") || got.user != "me@example.org" {
		t.Errorf("%+v", got)
	}
}

func TestWhatAMailServerRefusesIsToldInALine(t *testing.T) {
	for _, test := range []struct {
		name, want, hint string
		*mailServerRig
		password string
	}{
		{name: "the password", mailServerRig: &mailServerRig{auth: "PLAIN", password: secret}, password: "wrong", want: `535 "5.7.8 bad\x1b credentials"`, hint: "the user in smtp or the password"},
		{name: "to know users", mailServerRig: new(mailServerRig), password: secret, want: "AUTH"},
		{name: "the sender", mailServerRig: &mailServerRig{refuse: map[string]string{"MAIL": "550 who are you"}}, want: `550 "who are you"`},
		{name: "the recipient for now", mailServerRig: &mailServerRig{refuse: map[string]string{"RCPT": "450-come\r\n450 later"}}, want: `450 "come\nlater"`},
		{name: "the mail", mailServerRig: &mailServerRig{refuse: map[string]string{"DATA": "451 " + strings.Repeat("x", 100_000)}}, want: `451 "x`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := test.mailServerRig
			r.start(t)
			s := bySMTP("smtp://localhost:" + r.port)
			if test.password != "" {
				s = withPassword(t, bySMTP("smtp://me@localhost:"+r.port), test.password)
			}
			err := newSender(t, s).Send(t.Context(), failure())
			wantError(t, err, ": ", test.want)
			if !strings.Contains(hint.Of(err), test.hint) || strings.ContainsAny(err.Error(), "\x1b\n") || strings.Contains(err.Error(), "message ID") || len(err.Error()) > 1000 || len(r.mails) > 0 {
				t.Errorf("error %q, hint %q, mails %v", err, hint.Of(err), r.mails)
			}
		})
	}
}

func TestAMailThatWasTakenIsNotSentAgain(t *testing.T) {
	for _, verb := range []string{"RSET", "QUIT"} {
		r := mailServerRig{refuse: map[string]string{verb: "421 out of order"}}
		r.start(t)
		s := newSender(t, bySMTP("smtp://localhost:"+r.port))
		send(t, s, failure())
		send(t, s, failure())
		r.one(t)
	}
}

func TestAMailServerThatTalksForEverIsNotListenedTo(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		for block := []byte(strings.Repeat("2", 1<<20)); err == nil; {
			_, err = conn.Write(block)
		}
	}()
	err = newSender(t, bySMTP("smtp://"+l.Addr().String())).Send(t.Context(), failure())
	wantError(t, err, "EOF")
}

func sendmailAs(t testing.TB, file string) {
	before := sendmailProgram
	sendmailProgram = file
	t.Cleanup(func() { sendmailProgram = before })
}

func TestSendmailGetsTheMail(t *testing.T) {
	dir := t.TempDir()
	sendmailAs(t, program(t, `cat >"`+dir+`/mail"`, `printf '%s|' "$@" >"`+dir+`/arguments"`))
	n := failure()
	n.Body = ".\nFrom me\n" + strings.Repeat("ä", 500) + "\n"
	s := newSender(t, Settings{MailTo: []string{"root", "Jörg <joerg@example.org>"}, Sendmail: true})
	send(t, s, n)
	text := read(t, filepath.Join(dir, "mail"))
	m, subject, body := parseMail(t, text)
	if subject != "[laptop] backup home: failed" || body != n.Body || strings.Contains(text, "\r") {
		t.Errorf("mail: %q", text)
	}
	if got := m.Header.Get("To"); got != "root, =?utf-8?q?J=C3=B6rg?= <joerg@example.org>" || m.Header.Get("From") != "" {
		t.Errorf("header: %v", m.Header)
	}
	if got := read(t, filepath.Join(dir, "arguments")); got != "-i|-t|" {
		t.Errorf("arguments: %s", got)
	}
	s.MailFrom = "Backup <backup@example.org>"
	send(t, s, success())
	n.Failures["home"] = "something else"
	send(t, s, n)
	m, _, _ = parseMail(t, read(t, filepath.Join(dir, "mail")))
	if got := read(t, filepath.Join(dir, "arguments")); got != "-i|-t|-f|backup@example.org|" || m.Header.Get("From") != `"Backup" <backup@example.org>` {
		t.Errorf("arguments: %s, header: %v", got, m.Header)
	}
}

func TestSendmailThatFailsHangsOrIsMissingIsAnError(t *testing.T) {
	s := newSender(t, Settings{MailTo: []string{"root"}})
	sendmailAs(t, program(t, "cat >/dev/null; echo queue is full >&2; exit 75"))
	wantError(t, s.Send(t.Context(), failure()), "mail to root: program: queue is full")
	sendmailAs(t, "/nonexistent/sendmail")
	err := s.Send(t.Context(), failure())
	wantError(t, err, "mail to root: starting sendmail: ", "no such file")
	if !strings.Contains(hint.Of(err), "msmtp-mta") {
		t.Errorf("hint: %q", hint.Of(err))
	}
	sendmailAs(t, program(t, "exec sleep 1000"))
	s.patience = soon
	wantError(t, s.Send(t.Context(), failure()), "mail to root: no answer within 300ms")
}
