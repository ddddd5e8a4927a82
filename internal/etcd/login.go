package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// login shows a user's token with every request, and gets a new one when etcd does
// not take it any more: tokens lapse when they are not used for five minutes, when
// etcd restarts, and when users change.
//
// The client library's own login sends the old token along with the request for a
// new one. etcd 3.4 refuses that, and the library then asks forever.
type login struct {
	user, password string
	timeout        time.Duration

	renewing gate
	mu       sync.Mutex
	token    string // empty: etcd has no users, or nobody asked yet
	serial   int    // of the token; 0: nobody asked yet
}

// options makes a connection use the login.
func (l *login) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithPerRPCCredentials(l),
		grpc.WithChainUnaryInterceptor(l.unary),
		grpc.WithChainStreamInterceptor(l.stream),
	}
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (l *login) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	info, _ := credentials.RequestInfoFromContext(ctx)
	token, _ := l.current()
	if token == "" || info.Method == pb.Auth_Authenticate_FullMethodName {
		return nil, nil
	}
	return map[string]string{rpctypes.TokenFieldNameGRPC: token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: whether to use
// TLS is the administrator's choice.
func (l *login) RequireTransportSecurity() bool { return false }

func (l *login) current() (token string, serial int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token, l.serial
}

// unary repeats a request that was refused for its token. Such a refusal comes
// before anything is carried out.
func (l *login) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method == pb.Auth_Authenticate_FullMethodName {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	for try := 1; ; try++ {
		_, serial := l.current()
		if serial == 0 {
			if err := l.renew(ctx, cc, serial); err != nil {
				return err
			}
			continue
		}
		err := invoke(ctx, method, req, reply, cc, opts...)
		if try >= 3 || !lapsed(err) {
			return err
		}
		if err := l.renew(ctx, cc, serial); err != nil {
			return err
		}
	}
}

// stream gets a new token for each stream: that a stream's token has lapsed shows
// only later, and not always as that.
func (l *login) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	_, serial := l.current()
	if err := l.renew(ctx, cc, serial); err != nil {
		return nil, err
	}
	return open(ctx, desc, cc, method, opts...)
}

// renew gets a token unless somebody else has got one since serial.
func (l *login) renew(ctx context.Context, cc *grpc.ClientConn, serial int) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	if err := l.renewing.enter(ctx); err != nil {
		return err
	}
	defer l.renewing.leave()
	if _, now := l.current(); now != serial {
		return nil
	}
	resp, err := pb.NewAuthClient(cc).Authenticate(ctx, &pb.AuthenticateRequest{Name: l.user, Password: l.password})
	if err != nil && !errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token, l.serial = resp.GetToken(), l.serial+1
	return nil
}

// lapsed says whether a request was refused for its token, or for having none.
func lapsed(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrUserEmpty) || errors.Is(err, rpctypes.ErrAuthOldRevision)
}
