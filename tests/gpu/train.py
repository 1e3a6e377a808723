"""A PyTorch loop fed by read_batch, and the same loop with an ordinary DataLoader: samples a second.
The files are raw images of 3 x 190 x 190 bytes, and some more."""

import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn

import shardfs

work = Path(sys.argv[1])
archive = work / "data.tar"
BATCH, SIDE, SIZE = 256, 190, 110_000
BYTES = 3 * SIDE * SIDE
device = torch.device("cuda:0")

mount = work / "mount"
mount.mkdir(exist_ok=True)
mounted = subprocess.run(["shardfs", "mount", archive, mount], stderr=subprocess.PIPE, text=True, check=False)
root, where = (mount, "mount") if mounted.returncode == 0 else (work / "files", "extracted files")
if mounted.returncode != 0:
    print(f"no mount here ({mounted.stderr.strip()}): the DataLoader reads the extracted files")
names = sorted(str(path.relative_to(work / "files")) for path in (work / "files/110KB").rglob("*.bin"))
names = names[:12 * BATCH]


class Files(torch.utils.data.Dataset):
    def __len__(self):
        return len(names)

    def __getitem__(self, number):
        with open(root / names[number], "rb") as file:
            data = file.read()
        return torch.frombuffer(bytearray(data), dtype=torch.uint8)[:BYTES]


def loader_batches(workers, order):
    loader = torch.utils.data.DataLoader(Files(), BATCH, sampler=order, num_workers=workers, pin_memory=True)
    for batch in loader:
        yield batch.to(device, non_blocking=True)


def our_batches(data, order, ahead=2):
    stride = -(-SIZE // 256) * 256
    buffers = [torch.empty(BATCH * stride, dtype=torch.uint8, device=device) for _ in range(ahead + 1)]
    stream = torch.cuda.current_stream()
    pending = []

    def submit(begin):
        paths = [names[i] for i in order[begin:begin + BATCH]]
        out = buffers[begin // BATCH % len(buffers)]
        return data.submit(paths, out, device=device, stream=stream, sizes=[SIZE] * BATCH), out

    for begin in range(0, len(order), BATCH):
        pending.append(submit(begin))
        if len(pending) > ahead:
            one, out = pending.pop(0)
            one.wait(stream)
            yield out.view(BATCH, stride)[:, :BYTES]
    for one, out in pending:
        one.wait(stream)
        yield out.view(BATCH, stride)[:, :BYTES]


def small_net():
    return nn.Sequential(nn.Conv2d(3, 32, 7, 4), nn.ReLU(), nn.Conv2d(32, 64, 5, 4), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def nets():
    yield "no net", None
    yield "two convolutions", small_net()
    try:
        from torchvision.models import resnet18
        yield "ResNet-18", resnet18(num_classes=10)
    except ImportError:
        pass


def epoch(batches, net, optimizer):
    count, total = 0, torch.zeros((), device=device, dtype=torch.float64)
    start = time.perf_counter()
    for batch in batches:
        images = batch.reshape(-1, 3, SIDE, SIDE)
        if net is None:
            total += images[:, 0, 0].sum()
        else:
            with torch.autocast("cuda", torch.bfloat16):
                x = images.to(torch.bfloat16, memory_format=torch.channels_last).div_(255)
                loss = nn.functional.cross_entropy(net(x), images[:, 0, 0, 0].long() % 10)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        count += len(images)
    result = float(total)
    return count / (time.perf_counter() - start), result


generator = torch.Generator().manual_seed(1)
orders = [torch.randperm(len(names), generator=generator).tolist() for _ in range(4)]
workers = max(1, (os.cpu_count() or 2) - 2)
data = shardfs.Dataset(archive, tier="none")
for title, net in nets():
    if net is not None:
        net = net.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 1e-4) if net is not None else None
    for way in ("DataLoader", "read_batch"):
        rates, sums = [], []
        for order in orders:
            batches = loader_batches(workers, order) if way == "DataLoader" else our_batches(data, order)
            rate, total = epoch(batches, net, optimizer)
            rates.append(rate)
            sums.append(total)
        label = f"DataLoader of {workers} workers on the {where}" if way == "DataLoader" else "submit(), two ahead"
        print(f'{{"loop": "{title}", "way": "{label}", "samples_s": {sorted(rates[1:])[1]:.0f}, "first_sum": {sums[0]}}}',
              flush=True)
data.close()
