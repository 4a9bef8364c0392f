"""An app that calls others from inside its worker."""

from __future__ import annotations

from typing import Any

from dirty import DirtyApp, get_dirty_client, get_dirty_client_async


class Caller(DirtyApp):
    def call(self, *args: Any, **kwargs: Any) -> Any:
        return get_dirty_client().execute(*args, **kwargs)

    async def call_async(self, *args: Any, **kwargs: Any) -> Any:
        client = await get_dirty_client_async()
        return await client.execute_async(*args, **kwargs)
