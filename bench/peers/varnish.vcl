# Varnish with 64 MiB of malloc storage in front of nginx (peers/nginx.conf). Objects stay fresh for the whole run.
vcl 4.1;

backend origin {
    .host = "127.0.0.1";
    .port = "{{ORIGIN_PORT}}";
}

sub vcl_recv {
    # As the documentation advises for objects larger than the storage.
    if (req.url == "/huge") {
        return (pipe);
    }
    return (hash);
}

sub vcl_backend_response {
    set beresp.ttl = 1h;
    set beresp.grace = 0s;
}
