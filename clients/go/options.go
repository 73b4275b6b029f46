package veza

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
)

// DefaultTimeout is the deadline of a unary call whose context has none.
const DefaultTimeout = 10 * time.Second

// Option changes how [New] and [Dial] connect.
type Option func(*settings) error

type settings struct {
	token       func(context.Context) (string, error)
	tls         *tls.Config
	insecure    bool
	timeout     time.Duration
	retry       Retry
	dialOptions []grpc.DialOption
}

// WithToken authenticates as the service that has this token.
func WithToken(token string) Option {
	return WithTokenSource(func(context.Context) (string, error) { return token, nil })
}

// WithTokenFile authenticates as the service whose token the file holds. The file is looked at once a second at most, so
// a token is exchanged by writing the file.
func WithTokenFile(path string) Option {
	file := &tokenFile{path: path}
	return WithTokenSource(file.token)
}

// WithTokenSource authenticates with what the function returns; it is asked before every call and caches what is dear.
func WithTokenSource(token func(context.Context) (string, error)) Option {
	return func(s *settings) error {
		s.token = token
		return nil
	}
}

// WithTLS connects by TLS as the configuration says. Without it, and without [WithInsecure], it is TLS with the system's
// authorities.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) error {
		s.tls = config
		return nil
	}
}

// WithTLSFiles connects by TLS, trusting the authorities of caFile (PEM; empty for the system's), and shows the certificate
// of certFile and keyFile where these are not empty (mTLS). Certificate and key are read for every connection anew.
func WithTLSFiles(caFile, certFile, keyFile string) Option {
	return func(s *settings) error {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if caFile != "" {
			pem, err := os.ReadFile(caFile)
			if err != nil {
				return err
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return fmt.Errorf("%s holds no certificate in PEM", caFile)
			}
		}
		if certFile != "" || keyFile != "" {
			load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				pair, err := tls.LoadX509KeyPair(certFile, keyFile)
				return &pair, err
			}
			if _, err := load(nil); err != nil {
				return err
			}
			config.GetClientCertificate = load
		}
		s.tls = config
		return nil
	}
}

// WithInsecure connects without TLS, the token in clear: for a server on the same machine or in a network that is trusted.
func WithInsecure() Option {
	return func(s *settings) error {
		s.insecure = true
		return nil
	}
}

// WithTimeout sets the deadline of unary calls whose context has none, [DefaultTimeout] otherwise; 0 for no deadline.
func WithTimeout(timeout time.Duration) Option {
	return func(s *settings) error {
		if timeout < 0 {
			return errors.New("a timeout is not negative")
		}
		s.timeout = timeout
		return nil
	}
}

// WithRetry sets how often calls are tried, [DefaultRetry] otherwise.
func WithRetry(retry Retry) Option {
	return func(s *settings) error {
		if retry.Attempts < 1 || retry.First < 0 || retry.Max < retry.First {
			return fmt.Errorf("a retry has at least one attempt and waits that rise, not %+v", retry)
		}
		s.retry = retry
		return nil
	}
}

// WithDialOptions passes options on to gRPC, after the module's own: interceptors, statistics.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) error {
		s.dialOptions = append(s.dialOptions, options...)
		return nil
	}
}
