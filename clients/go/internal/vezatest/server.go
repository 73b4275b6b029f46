// Package vezatest starts the real server for tests: the binary that VEZA_BIN names, on free ports, with data of its own.
package vezatest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	veza "github.com/veza-platform/veza/clients/go"
)

const (
	startWithin = 30 * time.Second
	stopWithin  = 40 * time.Second
)

// Server is a running server. The test's end ends it.
type Server struct {
	// GRPC is where the gateway's API listens, HTTP where the page is, Metrics what Prometheus asks: host:port.
	GRPC, HTTP, Metrics string
	// Data is its data directory.
	Data string

	process *exec.Cmd
	ended   chan struct{}

	mu   sync.Mutex
	said []string
}

// addresses are those that the server logs once it listens.
var addresses = map[string]*regexp.Regexp{
	"grpc":    regexp.MustCompile(`[ "]gateway"?[=:]"?([0-9.]+:\d+)`),
	"http":    regexp.MustCompile(`[ "]http"?[=:]"?([0-9.]+:\d+)`),
	"metrics": regexp.MustCompile(`[ "]metrics"?[=:]"?([0-9.]+:\d+)`),
}

// Start starts a server, with more variables ("NAME=value") over those of a test.
func Start(t testing.TB, variables ...string) *Server {
	t.Helper()
	return StartIn(t, t.TempDir(), variables...)
}

// StartIn starts a server on a data directory that may have been used before.
func StartIn(t testing.TB, data string, variables ...string) *Server {
	t.Helper()
	binary := os.Getenv("VEZA_BIN")
	if binary == "" {
		t.Fatal("VEZA_BIN names no server: build one (cargo build) and set it, as scripts/go.sh does")
	}
	s := &Server{Data: data, ended: make(chan struct{})}
	s.process = exec.Command(binary)
	s.process.Dir = data
	s.process.Env = append([]string{
		"PATH=" + os.Getenv("PATH"),
		"HOST=127.0.0.1",
		"PORT=0", "WS_PORT=0", "GRPC_PORT=0", "PROMETHEUS_PORT=0",
		"VEZA_DATA_DIR=" + data,
	}, variables...)
	output, input := io.Pipe()
	s.process.Stdout, s.process.Stderr = input, input
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan struct{})
	go s.listen(output, listening)
	go func() {
		s.process.Wait()
		input.Close()
		close(s.ended)
	}()
	t.Cleanup(func() {
		s.process.Process.Kill()
		<-s.ended
		if t.Failed() {
			t.Logf("the server said:\n%s", strings.Join(s.Said(), "\n"))
		}
	})
	select {
	case <-listening:
	case <-s.ended:
		t.Fatal("the server ended")
	case <-time.After(startWithin):
		t.Fatal("the server does not listen")
	}
	return s
}

// SettledPort is a free port below those that the kernel gives away, so that nobody has it meanwhile when a server comes back.
func SettledPort(t testing.TB) int {
	t.Helper()
	for nth := range 1_000 {
		port := 18_000 + (os.Getpid()*97+nth)%14_000
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			listener.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// listen keeps what the server says, and closes listening once it says where it listens.
func (s *Server) listen(output io.Reader, listening chan<- struct{}) {
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		line := lines.Text()
		s.mu.Lock()
		s.said = append(s.said, line)
		s.mu.Unlock()
		if s.HTTP == "" && strings.Contains(line, "listening") {
			found := map[string]string{}
			for name, address := range addresses {
				if match := address.FindStringSubmatch(line); match != nil {
					found[name] = match[1]
				}
			}
			s.GRPC, s.HTTP, s.Metrics = found["grpc"], found["http"], found["metrics"]
			close(listening)
		}
	}
}

// Said is what the server has logged so far.
func (s *Server) Said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.said...)
}

// Token is the service token that a development server has made for itself.
func (s *Server) Token(t testing.TB) string {
	t.Helper()
	token, err := os.ReadFile(s.TokenFile())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// TokenFile is where that token stands.
func (s *Server) TokenFile() string {
	return filepath.Join(s.Data, "auth", "gateway-token")
}

// Client connects with the development server's own token.
func (s *Server) Client(t testing.TB, options ...veza.Option) *veza.Client {
	t.Helper()
	options = append([]veza.Option{veza.WithInsecure(), veza.WithTokenFile(s.TokenFile())}, options...)
	client, err := veza.Dial(t.Context(), s.GRPC, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// Terminate sends SIGTERM: the server drains.
func (s *Server) Terminate(t testing.TB) {
	t.Helper()
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// Kill sends SIGKILL and waits for the end.
func (s *Server) Kill() {
	s.process.Process.Kill()
	<-s.ended
}

// Ended waits for the end, and gives the exit code.
func (s *Server) Ended(t testing.TB) int {
	t.Helper()
	select {
	case <-s.ended:
	case <-time.After(stopWithin):
		t.Fatal("the server does not end")
	}
	return s.process.ProcessState.ExitCode()
}

// PID is the process's id.
func (s *Server) PID() int {
	return s.process.Process.Pid
}

// URL is where browsers find the page.
func (s *Server) URL() string {
	return fmt.Sprintf("http://%s", s.HTTP)
}
