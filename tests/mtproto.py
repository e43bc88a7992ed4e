"""A fake of one of Telegram's data centres: MTProto 2.0 over TCP, as far as receiving a post
takes it (core.telegram.org/mtproto).

Both sides hold the session's key, so no key is agreed on. telethon's types are used to read and
write what goes over the wire; the encryption is done the other way round than telethon does it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import struct
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from zlib import crc32

from telethon.crypto import AES, AuthKey
from telethon.extensions import BinaryReader
from telethon.network.mtprotostate import MTProtoState
from telethon.sessions import StringSession
from telethon.tl import TLObject, functions, types
from telethon.tl.core import MessageContainer, TLMessage

from ingot_server.setting_values import Secret
from tests.tcp_server import tcp_server

ADDRESS = "149.154.167.51"  # a data centre's, as sessions name it
PORT = 443
DC = 2
KEY = AuthKey(bytes(range(256)))
POSTED = datetime(2026, 10, 21, 17, 26, 43, tzinfo=UTC)


def session(address: str = ADDRESS, port: int = PORT) -> Secret:
    """A session that has logged in at `address`."""
    made = StringSession()
    made.set_dc(DC, address, port)
    made.auth_key = KEY
    return Secret(made.save())


@dataclass
class Channel:
    """A channel; without a `name` a private one."""

    number: int
    title: str
    name: str = ""
    posts: dict[int, bytes] = field(default_factory=dict)  # videos by their posts' numbers
    albums: dict[int, int] = field(default_factory=dict)  # posts that are of one, and of which
    pictures: set[int] = field(default_factory=set)  # posts that are not videos

    def shown(self) -> Any:
        return types.Channel(
            id=self.number,
            title=self.title,
            photo=types.ChatPhotoEmpty(),
            date=POSTED,
            access_hash=self.number * 7,
            username=self.name or None,
            broadcast=True,
        )


@dataclass
class FakeDataCentre:
    """Answers one account, which is a member of all the channels."""

    channels: list[Channel] = field(default_factory=list)
    flood_waits: list[int] = field(default_factory=list)  # for the next requests of messages
    asked: list[str] = field(default_factory=list)

    def serving(self) -> AbstractAsyncContextManager[str]:
        """Its HOST:PORT, for as long as the block runs."""
        return tcp_server(self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _Wire(reader, writer)
        try:
            while True:
                for number, request in await wire.receive():
                    answer = self._answer(request)
                    if answer is not None:
                        await wire.send(struct.pack("<Iq", 0xF35C6D01, number) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it hung up
        finally:
            writer.close()

    def _answer(self, request: Any) -> bytes | None:
        """The result of a request, as bytes; None: it has none."""
        while hasattr(request, "query"):  # invokeWithLayer, invokeWithoutUpdates, initConnection
            request = request.query
        name = type(request).__name__.removesuffix("Request")
        self.asked.append(name)
        match request:
            case functions.help.GetConfigRequest():
                return bytes(_config())
            case functions.users.GetUsersRequest():
                me = types.User(id=1, is_self=True, access_hash=1, first_name="Ingot")
                return _vector([me])
            case functions.updates.GetStateRequest():
                return bytes(types.updates.State(1, 0, POSTED, 1, 0))
            case functions.updates.GetDifferenceRequest():
                return bytes(types.updates.DifferenceEmpty(POSTED, 1))
            case functions.messages.GetDialogsRequest():
                return self._dialogs()
        return self._of_channels(request)

    def _of_channels(self, request: Any) -> bytes | None:
        match request:
            case functions.contacts.ResolveUsernameRequest(username=username):
                return self._resolved(username)
            case functions.channels.GetChannelsRequest():
                return _error(400, "CHANNEL_INVALID")  # a number without its hash
            case functions.channels.GetMessagesRequest(channel=channel, id=ids):
                return self._messages(channel.channel_id, [each.id for each in ids])
            case functions.upload.GetFileRequest(location=where, offset=offset, limit=limit):
                kind = types.storage.FileMp4()
                content = self._video(where.id)[offset : offset + limit]
                return bytes(types.upload.File(kind, 0, content))
        return None  # acknowledgements, pings

    def _resolved(self, username: str) -> bytes:
        for channel in self.channels:
            if channel.name == username:
                peer = types.PeerChannel(channel.number)
                return bytes(types.contacts.ResolvedPeer(peer, [channel.shown()], []))
        return _error(400, "USERNAME_NOT_OCCUPIED")

    def _dialogs(self) -> bytes:
        settings = types.PeerNotifySettings()
        dialogs = [
            types.Dialog(types.PeerChannel(channel.number), 1, 1, 1, 0, 0, 0, 0, settings)
            for channel in self.channels
        ]
        chats = [channel.shown() for channel in self.channels]
        return bytes(types.messages.Dialogs(dialogs, [], chats, []))

    def _messages(self, number: int, ids: Sequence[int]) -> bytes:
        if self.flood_waits:
            return _error(420, f"FLOOD_WAIT_{self.flood_waits.pop(0)}")
        channel = next(each for each in self.channels if each.number == number)
        messages = [
            _message(channel, post) if post in channel.posts else types.MessageEmpty(post, None)
            for post in ids
        ]
        return bytes(
            types.messages.ChannelMessages(1, len(messages), messages, [], [channel.shown()], [])
        )

    def _video(self, document: int) -> bytes:
        number, post = divmod(document, 1000)
        return next(each for each in self.channels if each.number == number).posts[post]


def _message(channel: Channel, post: int) -> Any:
    document = types.Document(
        id=channel.number * 1000 + post,
        access_hash=5,
        file_reference=b"reference",
        date=POSTED,
        mime_type="image/png" if post in channel.pictures else "video/mp4",
        size=len(channel.posts[post]),
        dc_id=DC,
        attributes=[
            types.DocumentAttributeVideo(2.0, 320, 240),
            types.DocumentAttributeFilename("lake.mp4"),
        ],
    )
    return types.Message(
        id=post,
        peer_id=types.PeerChannel(channel.number),
        date=POSTED,
        message="A lake at dawn\nand a second line",
        post=True,
        grouped_id=channel.albums.get(post),
        media=types.MessageMediaDocument(document=document),
    )


def _config() -> Any:
    parameters = inspect.signature(types.Config.__init__).parameters.values()
    return types.Config(
        **{each.name: 1 for each in parameters if each.annotation is int},
        date=POSTED,
        expires=POSTED,
        test_mode=False,
        dc_options=[types.DcOption(DC, ADDRESS, PORT)],
        dc_txt_domain_name="",
        me_url_prefix="https://t.me/",
    )


def _vector(items: Sequence[TLObject]) -> bytes:
    return struct.pack("<Ii", 0x1CB5C415, len(items)) + b"".join(map(bytes, items))


def _error(code: int, text: str) -> bytes:
    words: bytes = TLObject.serialize_bytes(text)
    return struct.pack("<Ii", 0x2144CA19, code) + words


class _Wire:
    """One connection's packets, in the transport that begins with no tag and counts (`full`)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._session = 0
        self._sent = 0
        self._last = 0

    async def receive(self) -> list[tuple[int, Any]]:
        """The requests of the next packet, with their numbers."""
        length, _ = struct.unpack("<ii", await self._reader.readexactly(8))
        packet = (await self._reader.readexactly(length - 8))[:-4]
        key, vector = MTProtoState._calc_key(KEY.key, packet[8:24], True)
        plain = BinaryReader(AES.decrypt_ige(packet[24:], key, vector))
        plain.read_long()
        self._session = plain.read_long()
        number = plain.read_long()
        plain.read(8)
        found = plain.tgread_object()
        if isinstance(found, MessageContainer):
            return [(each.msg_id, _unpacked(each)) for each in found.messages]
        return [(number, _unpacked(found))]

    async def send(self, body: bytes) -> None:
        self._last = max((int(time.time()) << 32) | 1, self._last + 4)
        head = struct.pack("<qqqii", 0, self._session, self._last, 1, len(body))
        plain = head + body
        plain += os.urandom(-(len(plain) + 12) % 16 + 12)
        proof = sha256(KEY.key[96:128] + plain).digest()[8:24]
        key, vector = MTProtoState._calc_key(KEY.key, proof, False)
        packet = struct.pack("<Q", KEY.key_id) + proof + AES.encrypt_ige(plain, key, vector)
        framed = struct.pack("<ii", len(packet) + 12, self._sent) + packet
        self._sent += 1
        self._writer.write(framed + struct.pack("<I", crc32(framed)))
        await self._writer.drain()


def _unpacked(found: Any) -> Any:
    found = found.obj if isinstance(found, TLMessage) else found
    return found.obj if hasattr(found, "obj") else found
