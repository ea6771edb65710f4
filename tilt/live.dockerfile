
# Appended to infra/docker/Dockerfile by the Tiltfile: an image whose source can be replaced in running containers. Tilt
# unpacks changed files with tar, as the container's user.
FROM runtime AS live
USER root
COPY --from=dependencies /usr/bin/tar /usr/bin/tar
RUN chown -R 10001:10001 /app
USER 10001:10001
