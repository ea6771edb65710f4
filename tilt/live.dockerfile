
# Added to infra/docker/Dockerfile by the Tiltfile: an image whose source may be replaced while it runs. Tilt unpacks
# changed files with tar, as the account of the container.
FROM runtime AS live
USER root
COPY --from=dependencies /usr/bin/tar /usr/bin/tar
RUN chown -R 10001:10001 /app
USER 10001:10001
