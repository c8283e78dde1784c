package sfapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// UserInfo is whom a token belongs to.
type UserInfo struct {
	UserID         string            `json:"user_id"`
	OrganizationID string            `json:"organization_id"`
	Username       string            `json:"preferred_username"`
	Name           string            `json:"name"`
	Email          string            `json:"email"`
	Active         bool              `json:"active"`
	URLs           map[string]string `json:"urls"`
}

// UserInfo returns whom the token belongs to, from the userinfo endpoint. It
// often answers where data calls are refused, which tells causes apart.
//
// https://help.salesforce.com/s/articleView?id=sf.remoteaccess_using_userinfo_endpoint.htm
func (c *Client) UserInfo(ctx context.Context) (*UserInfo, error) {
	var u UserInfo
	err := c.call(ctx, &request{
		op: "userinfo", method: http.MethodGet, path: "/services/oauth2/userinfo",
		endpoint: EndpointIdentity, readOnly: true,
		decode: func(rep *reply) error {
			u = UserInfo{}
			if err := into(&u)(rep); err != nil {
				return err
			}
			if u.UserID == "" || u.OrganizationID == "" {
				return fmt.Errorf("%w: userinfo names no user or no organization", ErrIncompleteResult)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return &u, nil
}

// Identity is what the identity URL says of the token's user.
type Identity struct {
	UserID         string            `json:"user_id"`
	OrganizationID string            `json:"organization_id"`
	Username       string            `json:"username"`
	DisplayName    string            `json:"display_name"`
	Email          string            `json:"email"`
	Active         bool              `json:"active"`
	UserType       string            `json:"user_type"`
	URLs           map[string]string `json:"urls"`
}

// Identity returns what the identity URL says, asked at the instance, where
// alone the token may go. The token must name its user.
//
// https://help.salesforce.com/s/articleView?id=sf.remoteaccess_using_openid.htm
func (c *Client) Identity(ctx context.Context) (*Identity, error) {
	tok, err := c.tokens.Token(ctx)
	if err != nil {
		return nil, fmt.Errorf("token of org %s: %w", c.org, err)
	}
	user, err := ID18(tok.UserID)
	if err != nil {
		return nil, fmt.Errorf("identity on org %s: user of the token: %w", c.org, err)
	}
	var id Identity
	err = c.call(ctx, &request{
		op: "identity", method: http.MethodGet, path: "/id/" + string(c.org) + "/" + user,
		endpoint: EndpointIdentity, readOnly: true,
		decode: func(rep *reply) error {
			id = Identity{}
			if err := into(&id)(rep); err != nil {
				return err
			}
			if id.UserID == "" || id.OrganizationID == "" {
				return fmt.Errorf("%w: identity names no user or no organization", ErrIncompleteResult)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return &id, nil
}

// Introspection is what the introspection endpoint says of a token.
type Introspection struct {
	// Active is strong evidence when it is true. When it is false, the app may
	// only lack the permission to introspect that token.
	Active bool

	// ExpiresAt and IssuedAt are zero where the answer does not say.
	ExpiresAt, IssuedAt time.Time

	Scope, ClientID, Username, Subject string
}

// UnmarshalJSON reads RFC 7662's answer, whose times are in seconds.
func (i *Introspection) UnmarshalJSON(b []byte) error {
	var raw struct {
		Active   *bool       `json:"active"`
		Exp      json.Number `json:"exp"`
		Iat      json.Number `json:"iat"`
		Scope    string      `json:"scope"`
		ClientID string      `json:"client_id"`
		Username string      `json:"username"`
		Sub      string      `json:"sub"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	if raw.Active == nil {
		return errors.New("answer lacks active")
	}
	*i = Introspection{
		Active: *raw.Active, ExpiresAt: unixSeconds(raw.Exp), IssuedAt: unixSeconds(raw.Iat),
		Scope: raw.Scope, ClientID: raw.ClientID, Username: raw.Username, Subject: raw.Sub,
	}
	return nil
}

func unixSeconds(n json.Number) time.Time {
	seconds, err := n.Int64()
	if err != nil || seconds <= 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// Introspect returns what the instance says of the Client's own access token.
// It neither refreshes nor replays.
//
// https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oidc_token_introspection.htm
func (c *Client) Introspect(ctx context.Context) (*Introspection, error) {
	tok, err := c.tokens.Token(ctx)
	if err != nil {
		return nil, fmt.Errorf("token of org %s: %w", c.org, err)
	}
	base, err := c.instance(tok)
	if err != nil {
		return nil, fmt.Errorf("introspect on org %s: %w", c.org, err)
	}
	return c.app.introspect(ctx, c.transport, base, c.org, tok.Access)
}
