# Echo by gevent.
import gevent.socket as socket
from gevent import spawn


def echo(connection):
    try:
        while True:
            data = connection.recv(4096)
            if not data:
                return
            connection.sendall(data)
    except OSError:
        pass  # the other side will have noticed
    finally:
        connection.close()


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(4096)
print("listening on %s:%d" % listener.getsockname(), flush=True)
while True:
    connection, _ = listener.accept()
    spawn(echo, connection)
