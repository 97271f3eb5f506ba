"""A client of containerd's CRI, as a kubelet is one: runs and removes pods. The messages are written by their numbers in
k8s.io/cri-api (runtime/v1/api.proto), so that no generated code is needed.

  cri.py image ROOT TAR NAME                 writes an image of a directory, for `ctr image import`
  cri.py run NAMESPACE NAME [HOST:PORT]... [ANNOTATION=VALUE]...   prints the pod's ID, then its addresses
  cri.py exec ID COMMAND...                  in the container of the pod
  cri.py rm ID
  cri.py ready                               whether the runtime's network is
"""
import hashlib
import io
import json
import subprocess
import sys
import tarfile

SOCKET = '/run/containerd/containerd.sock'


def number(value):
    out = b''
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def message(*fields):
    """A message of (number, value) pairs: a value is a number, a text, or a message."""
    out = b''
    for key, value in fields:
        if isinstance(value, int):
            out += number(key << 3) + number(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += number(key << 3 | 2) + number(len(value)) + value
    return out


def fields(data):
    """The fields of a message: lists of values by number."""
    found, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            value = varint()
        else:
            length = varint()
            value, at = data[at:at + length], at + length
        found.setdefault(key >> 3, []).append(value)
    return found


def call(method, request):
    """A call of gRPC: one message there and one back, each after a zero and its length."""
    url = 'http://localhost/runtime.v1.RuntimeService/' + method
    command = ['curl', '-sS', '--http2-prior-knowledge', '--unix-socket', SOCKET, '-D', '/dev/stderr',
               '-H', 'content-type: application/grpc', '-H', 'te: trailers', '--data-binary', '@-', url]
    body = b'\0' + len(request).to_bytes(4, 'big') + request
    answer = subprocess.run(command, input=body, capture_output=True, check=False)
    headers = answer.stderr.decode()
    if 'grpc-status: 0' not in headers:
        sys.exit(f'{method}: {headers}')
    return fields(answer.stdout[5:])


def image(root, out, name):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode='w') as tar:
        tar.add(root, arcname='.')
    layer = layer.getvalue()
    sum = hashlib.sha256(layer).hexdigest()
    config = {'architecture': 'amd64', 'os': 'linux', 'config': {'Cmd': ['/bin/sleep', '1000000']},
              'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + sum]}}
    config = json.dumps(config).encode()
    manifest = json.dumps([{'Config': 'config.json', 'RepoTags': [name], 'Layers': ['layer.tar']}]).encode()
    with tarfile.open(out, 'w') as tar:
        for path, content in [('config.json', config), ('layer.tar', layer), ('manifest.json', manifest)]:
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def run(namespace, name, *options):
    ports = [option.split(':') for option in options if '=' not in option]
    annotations = [option.split('=', 1) for option in options if '=' in option]
    pod = message(
        (1, message((1, name), (2, 'uid-' + name), (3, namespace))),
        (2, name),
        # As in a cluster: its name server, and a search list.
        (4, message((1, '10.96.0.10'), (2, namespace + '.svc.cluster.local'), (3, 'ndots:5'))),
        *[(5, message((2, int(port)), (3, int(host)))) for host, port in ports],
        *[(7, message((1, key), (2, value))) for key, value in annotations],
        (8, message((1, '/netbpf-pods/' + name))),
    )
    sandbox = call('RunPodSandbox', message((1, pod)))[1][0]
    container = message((1, message((1, 'c'))), (2, message((1, 'localhost/box:1'))), (3, '/bin/sleep'),
                        (4, '1000000'), (15, b''))
    created = call('CreateContainer', message((1, sandbox), (2, container), (3, pod)))[1][0]
    call('StartContainer', message((1, created)))
    network = fields(fields(call('PodSandboxStatus', message((1, sandbox)))[1][0])[5][0])
    others = [fields(other)[1][0] for other in network.get(2, [])]
    print(sandbox.decode(), *[address.decode() for address in network[1] + others])


def execute(sandbox, *command):
    listed = call('ListContainers', b'').get(1, [])
    container = next(found[1][0] for found in map(fields, listed) if found[2][0].decode() == sandbox)
    answer = call('ExecSync', message((1, container), *[(2, word) for word in command], (3, 20)))
    print(*[text.decode() for text in answer.get(1, []) + answer.get(2, [])], end='')
    sys.exit(answer.get(3, [0])[0])


def remove(sandbox):
    call('StopPodSandbox', message((1, sandbox)))
    call('RemovePodSandbox', message((1, sandbox)))


def ready():
    status = fields(call('Status', b'')[1][0])
    conditions = [fields(condition) for condition in status[1]]
    network = next(condition for condition in conditions if condition[1] == [b'NetworkReady'])
    sys.exit(0 if network.get(2) == [1] else str(network))


{'image': image, 'run': run, 'exec': execute, 'rm': remove, 'ready': ready}[sys.argv[1]](*sys.argv[2:])
