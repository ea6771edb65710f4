"""Who is who: sign-in, sessions, tenants and their members, API keys, and the tokens services trust."""
