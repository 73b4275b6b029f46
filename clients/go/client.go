package veza

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// serviceConfig spreads calls over the servers that a name stands for. One that goes away says so by itself, by HTTP/2 and
// by refusing calls as DRAINING, which are then tried on the next.
const serviceConfig = `{"loadBalancingConfig": [{"round_robin": {}}]}`

// The connection is tried after an idle spell, and found dead within seconds.
var keepAlive = keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}

// A server that was exchanged is found again at once, not after gRPC's two minutes.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
	MinConnectTimeout: 5 * time.Second,
}

// Client has the gateway's services, over one connection that is kept and mended. It is safe for concurrent use.
type Client struct {
	Rooms      gatewayv1.RoomsClient
	Messages   gatewayv1.MessagesClient
	Moderation gatewayv1.ModerationClient
	Streams    gatewayv1.StreamsClient
	Auth       gatewayv1.AuthClient
	Devices    gatewayv1.DevicesClient
	// Events is what events.Consumer runs on.
	Events   gatewayv1.EventsClient
	Webhooks gatewayv1.WebhooksClient

	conn *grpc.ClientConn
}

// New makes a client of the gateway API at target (host:port, or a gRPC name like dns:///veza.internal:50051). It does not
// wait for the connection; [Dial] does.
func New(target string, options ...Option) (*Client, error) {
	s := settings{timeout: DefaultTimeout, retry: DefaultRetry}
	for _, option := range options {
		if err := option(&s); err != nil {
			return nil, fmt.Errorf("veza: %w", err)
		}
	}
	transport, err := s.transport()
	if err != nil {
		return nil, fmt.Errorf("veza: %w", err)
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithKeepaliveParams(keepAlive),
		grpc.WithConnectParams(reconnect),
		grpc.WithUserAgent("veza-go"),
		grpc.WithChainUnaryInterceptor(unary(s.timeout, s.retry)),
	}
	if s.token != nil {
		dial = append(dial, grpc.WithPerRPCCredentials(bearer{token: s.token, insecure: s.insecure}))
	}
	conn, err := grpc.NewClient(target, append(dial, s.dialOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("veza: %w", err)
	}
	return &Client{
		Rooms:      gatewayv1.NewRoomsClient(conn),
		Messages:   gatewayv1.NewMessagesClient(conn),
		Moderation: gatewayv1.NewModerationClient(conn),
		Streams:    gatewayv1.NewStreamsClient(conn),
		Auth:       gatewayv1.NewAuthClient(conn),
		Devices:    gatewayv1.NewDevicesClient(conn),
		Events:     gatewayv1.NewEventsClient(conn),
		Webhooks:   gatewayv1.NewWebhooksClient(conn),
		conn:       conn,
	}, nil
}

// Dial makes a client and waits until the server says that it serves, until the context ends or [DefaultTimeout] has passed.
func Dial(ctx context.Context, target string, options ...Option) (*Client, error) {
	client, err := New(target, options...)
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	for {
		err := client.Ready(waiting)
		if err == nil {
			return client, nil
		}
		if errors.Is(err, errNotServing) {
			select {
			case <-waiting.Done():
			case <-time.After(lookAgain):
				continue
			}
		}
		client.Close()
		return nil, fmt.Errorf("veza: %s: %w", target, err)
	}
}

// errNotServing is what a server says that starts, drains, or has no database.
var errNotServing = errors.New("the server does not serve")

// lookAgain is how long Dial waits before it asks such a server again.
const lookAgain = 100 * time.Millisecond

// Ready waits for a connection and asks the server whether it serves: for a readiness probe.
func (c *Client) Ready(ctx context.Context) error {
	health := grpc_health_v1.NewHealthClient(c.conn)
	answer, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("%w: it says %s", errNotServing, answer.GetStatus())
	}
	return nil
}

// Conn is the connection beneath, for other services on it (health, reflection).
func (c *Client) Conn() *grpc.ClientConn {
	return c.conn
}

// Close ends the connection and what is under way on it.
func (c *Client) Close() error {
	return c.conn.Close()
}

func (s *settings) transport() (credentials.TransportCredentials, error) {
	switch {
	case s.insecure && s.tls != nil:
		return nil, errors.New("WithInsecure and TLS exclude each other")
	case s.insecure:
		return insecure.NewCredentials(), nil
	case s.tls != nil:
		return credentials.NewTLS(s.tls), nil
	default:
		return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}), nil
	}
}
